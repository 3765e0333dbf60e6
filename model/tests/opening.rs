//! How long it takes to open a vocabulary of 256 k tokens: under 100 ms of processor time.

#![allow(clippy::unwrap_used, reason = "tests")]
#![allow(clippy::print_stdout, reason = "shown by --nocapture")]

mod support;

use std::time::Duration;

use polychord_model::gguf::{Array, Gguf, Value};
use polychord_model::tokenizer::Tokenizer;
use rustix::time::{ClockId, clock_gettime};
use support::{Writer, string, strings, test_data};

/// Measured were 12 to 33 ms in a release build on an AMD EPYC with much else to do.
const MOST: Duration = Duration::from_millis(100);

/// Processor time of this thread.
fn now() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(time.tv_sec.try_into().unwrap(), time.tv_nsec.try_into().unwrap())
}

/// The shortest of some runs, of reading the header and of making the tokenizer.
fn measure(what: &str, file: &[u8]) -> Duration {
    let once = || {
        let start = now();
        let gguf = Gguf::read(file, file.len() as u64).unwrap();
        let read = now();
        let tokenizer = Tokenizer::from_gguf(&gguf).unwrap();
        let done = now();
        assert!(tokenizer.vocab_size() > 0);
        println!("{what}: header {:?}, tokenizer {:?}", read - start, done - read);
        done - start
    };
    (0..5).map(|_| once()).min().unwrap()
}

/// Parts of which no two chains of five are equal.
fn text(number: u32) -> String {
    let syllables = ["ka", "lo", "mi", "tu", "né", "ры", "sch", "ing"];
    (0..6).rev().map(|place| syllables[(number as usize >> (3 * place)) & 7]).collect()
}

const TOKENS: u32 = 1 << 18;

#[test]
fn sentence_piece_of_256_k_tokens() {
    let bytes = (0..256).map(|byte| format!("<0x{byte:02X}>"));
    let tokens = ["<unk>".to_owned(), "<s>".to_owned(), "</s>".to_owned()].into_iter().chain(bytes);
    let tokens: Vec<_> =
        tokens.chain((0..TOKENS).map(|number| format!("▁{}", text(number)))).collect();
    let kind = |at: usize| match at {
        0 => 2,
        1 | 2 => 3,
        3..259 => 6,
        _ => 1,
    };
    let score = |at: usize| -f32::from(u16::try_from(at % 60_000).unwrap());
    let scores = (0..tokens.len()).map(score).collect();
    let file = Writer::default()
        .pair("tokenizer.ggml.model", string("llama"))
        .pair(
            "tokenizer.ggml.token_type",
            Value::Array(Array::I32((0..tokens.len()).map(kind).collect())),
        )
        .pair("tokenizer.ggml.scores", Value::Array(Array::F32(scores)))
        .pair("tokenizer.ggml.tokens", strings(tokens));
    check("SentencePiece", &file.file());
}

#[test]
fn byte_level_of_256_k_tokens_and_512_k_merges() {
    let tokens: Vec<_> = ["a", "b", "ab"]
        .map(str::to_owned)
        .into_iter()
        .chain((0..TOKENS).map(|number| format!("Ġ{}", text(number))))
        .collect();
    let merges =
        (0..2 * TOKENS).map(|number| format!("{} Ġ{}", text(number & 511), text(number >> 9)));
    let file = Writer::default()
        .pair("tokenizer.ggml.model", string("gpt2"))
        .pair("tokenizer.ggml.pre", string("qwen2"))
        .pair("tokenizer.ggml.token_type", Value::Array(Array::I32(vec![1; tokens.len()])))
        .pair("tokenizer.ggml.merges", strings(["a b".to_owned()].into_iter().chain(merges)))
        .pair("tokenizer.ggml.tokens", strings(tokens));
    check("BPE", &file.file());
}

#[test]
fn word_piece_of_256_k_tokens() {
    let special = ["[UNK]", "[CLS]", "[SEP]"].map(str::to_owned).into_iter();
    let tokens: Vec<_> =
        special.chain((0..TOKENS).map(|number| format!("▁{}", text(number)))).collect();
    let id = |name, id| (format!("tokenizer.ggml.{name}_token_id"), Value::U32(id));
    let file = [id("unknown", 0), id("bos", 1), id("seperator", 2)]
        .into_iter()
        .fold(Writer::default(), |file, (key, value)| file.pair(&key, value));
    let file = file
        .pair("tokenizer.ggml.model", string("bert"))
        .pair("tokenizer.ggml.tokens", strings(tokens));
    check("WordPiece", &file.file());
}

#[test]
fn real_vocabularies() {
    for name in [
        "ggml-vocab-gemma-4.gguf",
        "ggml-vocab-qwen2.gguf",
        "ggml-vocab-llama-bpe.gguf",
        "../real-models/gemma-3-270m-q4_k_m.gguf",
    ] {
        let Some(path) = test_data(name) else { continue };
        check(name, &std::fs::read(path).unwrap());
    }
}

fn check(what: &str, file: &[u8]) {
    let took = measure(what, file);
    assert!(took < MOST, "{what}: {took:?} of processor time, where {MOST:?} are allowed");
}

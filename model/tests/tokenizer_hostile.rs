//! Vocabularies that no tool has made, and text of all kinds.

#![allow(clippy::unwrap_used, reason = "tests")]

mod support;

use polychord_model::gguf::{Array, Value};
use polychord_model::tokenizer::{SpecialTokens, Tokenizer};
use proptest::prelude::*;
use proptest::sample::select;
use support::{Writer, read, string, strings};

const NAMES: [&str; 25] = [
    "default",
    "gpt-2",
    "exaone4",
    "llama-bpe",
    "lfm2",
    "dbrx",
    "glm4",
    "smollm",
    "qwen2",
    "qwen35",
    "tekken",
    "gpt-4o",
    "deepseek-llm",
    "deepseek-coder",
    "deepseek-v3",
    "seed-coder",
    "exaone-moe",
    "minicpm5",
    "ufakzeka",
    "laguna",
    "falcon",
    "bloom",
    "viking",
    "superbpe",
    "chameleon",
];

/// Pieces of tokens and texts: some that mean something, in pieces that may touch.
fn piece() -> impl Strategy<Value = String> {
    let known = select(vec![
        "a",
        "b",
        "ab",
        " ",
        "  ",
        "▁",
        "▁a",
        "Ġ",
        "Ċ",
        "\n",
        "\r\n",
        "'",
        "'s",
        "1",
        "23",
        "é",
        "日本",
        "\u{301}",
        "🦙",
        "\u{3000}",
        "\u{85}",
        "A",
        "Bc",
        "!",
        "$",
        "/",
        "<",
        ">",
        "<|im_end|>",
        "</s>",
        "<s>",
        "<0x0A>",
        "<0xé>",
        "<|end|>",
        "<|call|>",
        "<|return|>",
        "\0",
    ]);
    prop_oneof![4 => known.prop_map(str::to_owned), 1 => "\\PC{0,3}", 1 => any::<char>().prop_map(String::from)]
}

fn text() -> impl Strategy<Value = String> {
    prop::collection::vec(piece(), 0..12).prop_map(|pieces| pieces.concat())
}

/// A vocabulary of anything, with keys that may be missing, or of another kind.
fn vocabulary() -> impl Strategy<Value = Writer> {
    let pair = (piece(), piece()).prop_map(|(left, right)| format!("{left} {right}"));
    let merges = prop::collection::vec(prop_oneof![9 => pair, 1 => piece()], 0..12);
    let id = || prop::option::of(prop_oneof![0..12_u32, any::<u32>()]);
    let flag = || prop::option::of(any::<bool>());
    (
        select(vec!["gpt2", "llama", "gemma4", "bert"]),
        select(NAMES.to_vec()),
        prop::collection::vec((piece(), 0..8_i32, any::<f32>()), 0..40),
        merges,
        (id(), id(), id(), id()),
        (flag(), flag(), flag(), any::<bool>()),
    )
        .prop_map(|(model, pre, tokens, merges, ids, flags)| {
            let array = |numbers: Vec<i32>| Value::Array(Array::I32(numbers));
            let scores = tokens.iter().map(|(.., score)| *score).collect();
            let mut writer = Writer::default()
                .pair("tokenizer.ggml.model", string(model))
                .pair("tokenizer.ggml.pre", string(pre))
                .pair(
                    "tokenizer.ggml.tokens",
                    strings(tokens.iter().map(|(text, ..)| text.as_str())),
                )
                .pair("tokenizer.ggml.merges", strings(merges))
                .pair("tokenizer.ggml.scores", Value::Array(Array::F32(scores)));
            if flags.3 {
                let kinds = array(tokens.iter().map(|(_, kind, _)| *kind).collect());
                writer = writer.pair("tokenizer.ggml.token_type", kinds);
            }
            let ids = [("bos", ids.0), ("eos", ids.1), ("unknown", ids.2), ("fim_pad", ids.3)];
            for (name, id) in ids {
                let key = format!("tokenizer.ggml.{name}_token_id");
                writer = id.into_iter().fold(writer, |it, id| it.pair(&key, Value::U32(id)));
            }
            let flags = [("bos_token", flags.0), ("eos_token", flags.1), ("space_prefix", flags.2)];
            for (name, flag) in flags {
                let key = format!("tokenizer.ggml.add_{name}");
                writer = flag.into_iter().fold(writer, |it, flag| it.pair(&key, Value::Bool(flag)));
            }
            writer
        })
}

/// All bytes, some merges, and some special tokens.
fn byte_level(pre: &str) -> Tokenizer {
    let printable = |byte: u8| matches!(byte, 33..=126 | 161..=172 | 174..=255);
    let mut more = 256..;
    let bytes = (0..=255_u8).map(|byte| match printable(byte) {
        true => char::from(byte).to_string(),
        false => char::from_u32(more.next().unwrap()).unwrap().to_string(),
    });
    let merges = ["a b", "Ġ Ġ", "Ġ a", "Ġa b", "Ã ©", "' s", "1 2", "Ċ Ċ"];
    let mut tokens: Vec<_> = bytes.collect();
    tokens.extend(merges.map(|merge| merge.replace(' ', "")));
    let mut kinds = vec![1; tokens.len()];
    tokens.extend(["<|im_end|>".to_owned(), "<s>".to_owned()]);
    kinds.extend([3, 4]);
    let writer = Writer::default()
        .pair("tokenizer.ggml.model", string("gpt2"))
        .pair("tokenizer.ggml.pre", string(pre))
        .pair("tokenizer.ggml.tokens", strings(tokens))
        .pair("tokenizer.ggml.token_type", Value::Array(Array::I32(kinds)))
        .pair("tokenizer.ggml.bos_token_id", Value::U32(265))
        .pair("tokenizer.ggml.merges", strings(merges));
    Tokenizer::from_gguf(&read(&writer.file()).unwrap()).unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]

    #[test]
    fn any_vocabulary_is_refused_or_works(writer in vocabulary(), text in text()) {
        let gguf = read(&writer.file()).unwrap();
        if let Ok(tokenizer) = Tokenizer::from_gguf(&gguf) {
            for special in [SpecialTokens::Parse, SpecialTokens::AsText] {
                let ids = tokenizer.encode_document(&text, special).unwrap();
                prop_assert!(ids.iter().all(|id| *id < tokenizer.vocab_size()));
                let whole = tokenizer.decode(&ids).unwrap();
                let mut decoder = tokenizer.decoder();
                let mut streamed = String::new();
                for id in &ids {
                    streamed += &decoder.push(*id).unwrap();
                }
                streamed += &decoder.finish();
                // One space in front may be the tokenizer's own.
                let padded = format!(" {whole}");
                prop_assert!(streamed == whole || streamed == padded);
            }
        }
    }

    #[test]
    fn all_text_survives_all_rules(name in select(NAMES.to_vec()), text in text()) {
        let tokenizer = byte_level(name);
        let ids = tokenizer.encode(&text, SpecialTokens::AsText).unwrap();
        prop_assert_eq!(tokenizer.decode(&ids).unwrap(), text);
    }
}

#[test]
fn long_runs_of_anything_take_linear_time() {
    for name in NAMES {
        let tokenizer = byte_level(name);
        let start = std::time::Instant::now();
        for run in [
            " ", "\n", " \n", "a", "A", "1", "!", "'", "日", "日A", "\u{301}", "\u{3000}", "a ",
            "<",
        ] {
            let text = run.repeat(5_000) + "x";
            let ids = tokenizer.encode(&text, SpecialTokens::Parse).unwrap();
            assert_eq!(tokenizer.decode(&ids).unwrap(), text, "{name}: {run:?}");
        }
        assert!(start.elapsed().as_secs() < 60, "{name}: {:?}", start.elapsed());
    }
}

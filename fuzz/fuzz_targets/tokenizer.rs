//! Vocabularies of any words, flags and merges, and any text: an error, or tokens of the vocabulary, whose pieces
//! are the same together and one by one.
//!
//! `scripts/fuzz tokenizer`, from the repository's root.

#![no_main]

use std::collections::BTreeSet;

use arbitrary::{Result, Unstructured};
use libfuzzer_sys::fuzz_target;
use polychord_model::gguf::{Array, Value};
use polychord_model::tokenizer::{SpecialTokens, Tokenizer};

#[path = "../../model/tests/support/mod.rs"]
mod support;

use support::{Writer, read, string, strings};

/// Kinds of vocabularies; the last is of none.
const MODELS: [&str; 5] = ["gpt2", "llama", "bert", "gemma4", "other"];
/// Names of pre-tokenizers, one of each way to cut.
const PRE: [&str; 20] = [
    "default",
    "gpt-2",
    "llama-bpe",
    "qwen2",
    "qwen35",
    "tekken",
    "gpt-4o",
    "smollm",
    "deepseek-llm",
    "deepseek-v3",
    "glm4",
    "lfm2",
    "exaone4",
    "seed-coder",
    "gemma4",
    "superbpe",
    "chameleon",
    "falcon",
    "starcoder",
    "other",
];
/// Words that mean something, or that are hard to cut.
const WORDS: [&str; 16] = [
    "<s>",
    "</s>",
    "<unk>",
    "<0x41>",
    "<|im_end|>",
    "\u{2581}",
    "\u{2581}a",
    "##a",
    "[CLS]",
    "[SEP]",
    "[UNK]",
    "Ġ",
    "ĠĠ",
    "\n",
    "é",
    "🦙",
];
/// Keys of flags.
const FLAGS: [&str; 4] =
    ["add_bos_token", "add_eos_token", "add_space_prefix", "remove_extra_whitespaces"];
/// Keys of ids.
const IDS: [&str; 4] = ["bos_token_id", "eos_token_id", "unknown_token_id", "eot_token_id"];

fuzz_target!(|bytes: &[u8]| {
    let Ok((file, text)) = file(&mut Unstructured::new(bytes)) else { return };
    let gguf = read(&file).expect("its header is sound");
    let Ok(tokenizer) = Tokenizer::from_gguf(&gguf) else { return };
    for special in [SpecialTokens::Parse, SpecialTokens::AsText] {
        let Ok(ids) = tokenizer.encode_prompt(&text, special) else { continue };
        assert!(ids.iter().all(|&id| id < tokenizer.vocab_size()));
        // Byte pairs, and the ends of documents.
        assert!(ids.len() <= 4 * text.len() + 8, "{} tokens of {} bytes", ids.len(), text.len());
        let whole = tokenizer.decode(&ids).expect("own ids decode");
        let mut decoder = tokenizer.decoder();
        let mut parts = String::new();
        for id in ids {
            parts += &decoder.push(id).expect("own ids decode");
        }
        parts += &decoder.finish();
        // Of a whole text the space is taken off that the vocabulary has before it.
        assert!(parts == whole || parts.strip_prefix(' ') == Some(&whole), "{parts:?} {whole:?}");
    }
});

/// A file without tensors, and a text.
fn file(input: &mut Unstructured<'_>) -> Result<(Vec<u8>, String)> {
    let text: String = words(input, 24)?.concat();
    let mut tokens = words(input, 60)?;
    if input.ratio(7, 8)? {
        // Two equal words are refused.
        let mut seen = BTreeSet::new();
        tokens.retain(|word| seen.insert(word.clone()));
    }
    let count = tokens.len();
    let key = |name: &str| format!("tokenizer.ggml.{name}");
    let mut writer = Writer::default()
        .pair(&key("model"), string(input.choose(&MODELS)?))
        .pair(&key("pre"), string(input.choose(&PRE)?));
    if input.arbitrary()? {
        let types = (0..count).map(|_| input.int_in_range(0..=7)).collect::<Result<_>>()?;
        writer = writer.pair(&key("token_type"), Value::Array(Array::I32(types)));
    }
    if input.arbitrary()? {
        let scores = (0..count).map(|_| input.arbitrary()).collect::<Result<_>>()?;
        writer = writer.pair(&key("scores"), Value::Array(Array::F32(scores)));
    }
    let mut merges = Vec::new();
    while count > 0 && !input.is_empty() && merges.len() < 80 && input.ratio(9, 10)? {
        merges.push(format!("{} {}", input.choose(&tokens)?, input.choose(&tokens)?));
    }
    writer = writer.pair(&key("merges"), strings(merges));
    for name in FLAGS {
        if input.arbitrary()? {
            writer = writer.pair(&key(name), Value::Bool(input.arbitrary()?));
        }
    }
    for name in IDS {
        if input.arbitrary()? {
            writer = writer.pair(&key(name), Value::U32(input.int_in_range(0..=70)?));
        }
    }
    Ok((writer.pair(&key("tokens"), strings(tokens)).file(), text))
}

/// Words of which some mean something, some are single bytes as byte pairs have them, and some are anything.
fn words(input: &mut Unstructured<'_>, most: usize) -> Result<Vec<String>> {
    (0..input.int_in_range(0..=most)?)
        .map(|_| {
            Ok(match input.int_in_range(0..=3)? {
                0 => (*input.choose(&WORDS)?).to_owned(),
                1 => char::from(input.int_in_range(b' '..=b'~')?).to_string(),
                2 => format!(
                    "{}{}",
                    input.choose(&["a", "b", " ", "Ġ"])?,
                    input.choose(&["a", "b", "1", "ß"])?
                ),
                _ => input.arbitrary::<&str>()?.chars().take(6).collect(),
            })
        })
        .collect()
}

//! Which tokens end a model's answer, and which types are mended.

use super::Error;
use super::vocab::{TokenType, Vocab, special_id};
use crate::gguf::Metadata;

/// Metadata names of tokens that end a turn (`tokenizer.ggml.{name}_token_id`).
const ROLES: [&str; 3] = ["eos", "eot", "eom"];

/// Texts of tokens that end a turn, after llama.cpp: converters often forget to say so.
const TEXTS: [&str; 22] = [
    "<|eot_id|>",
    "<|im_end|>",
    "<|end|>",
    "<|return|>",
    "<|call|>",
    "<|flush|>",
    "<|calls|>",
    "<end_of_turn>",
    "<|endoftext|>",
    "</s>",
    "<|eom_id|>",
    "<EOT>",
    "_<EOT>",
    "[EOT]",
    "[EOS]",
    "<|end_of_text|>",
    "<end_of_utterance>",
    "<eos>",
    "<turn|>",
    "<|tool_response>",
    "<｜end▁of▁sentence｜>",
    "[e~[",
];

/// Metadata names of tokens in which filling in the middle ends, and their texts where the metadata
/// name none; the first that is there counts.
const FILL_IN: [(&str, &[&str]); 3] = [
    ("fim_pad", &["<|fim_pad|>", "<fim-pad>", "<fim_pad>", "<PAD>", "[PAD]"]),
    ("fim_rep", &["<|fim_repo|>", "<|repo_name|>", "<fim-repo>", "<REPO>", "<reponame>"]),
    ("fim_sep", &["<|file_sep|>"]),
];

/// Tokens between which filling in happens: they end nothing, but are control tokens.
const FILL_IN_PARTS: [(&str, &[&str]); 3] = [
    (
        "fim_pre",
        &[
            "<|fim_prefix|>",
            "<fim-prefix>",
            "<fim_prefix>",
            "<｜fim▁begin｜>",
            "<PRE>",
            "▁<PRE>",
            "<|code_prefix|>",
            "<|prefix|>",
        ],
    ),
    (
        "fim_suf",
        &[
            "<|fim_suffix|>",
            "<fim-suffix>",
            "<fim_suffix>",
            "<｜fim▁hole｜>",
            "<SUF>",
            "▁<SUF>",
            "<|code_suffix|>",
            "<|suffix|>",
        ],
    ),
    (
        "fim_mid",
        &[
            "<|fim_middle|>",
            "<fim-middle>",
            "<fim_middle>",
            "<｜fim▁end｜>",
            "<MID>",
            "▁<MID>",
            "<|code_middle|>",
            "<|middle|>",
        ],
    ),
];

/// Markup of the gpt-oss models that is shown and is no control token.
const SHOWN: [&str; 4] = ["<|channel|>", "<|message|>", "<|start|>", "<|constrain|>"];

/// The tokens that end generation, in order. Those that were found by their text become control
/// tokens, whatever their type was.
pub(super) fn mark(vocab: &mut Vocab, metadata: &Metadata) -> Result<Vec<u32>, Error> {
    let mut ids = Vec::new();
    for (role, texts) in FILL_IN {
        ids.extend(named_or_found(vocab, metadata, role, texts)?);
    }
    for (role, texts) in FILL_IN_PARTS {
        named_or_found(vocab, metadata, role, texts)?;
    }
    for id in TEXTS.iter().filter_map(|text| vocab.find(text)).collect::<Vec<_>>() {
        vocab.set_type(id, TokenType::Control);
        ids.push(id);
    }
    for id in SHOWN.iter().filter_map(|text| vocab.find(text)).collect::<Vec<_>>() {
        vocab.set_type(id, TokenType::UserDefined);
    }
    ids.extend(vocab.eos);
    for role in ROLES {
        ids.extend(special_id(metadata, role, vocab.size())?);
    }
    ids.sort_unstable();
    ids.dedup();
    unmark(vocab, &mut ids);
    Ok(ids)
}

/// The token that a key names, or the first of these texts, which becomes a control token.
fn named_or_found(
    vocab: &mut Vocab,
    metadata: &Metadata,
    role: &str,
    texts: &[&str],
) -> Result<Option<u32>, Error> {
    let named = special_id(metadata, role, vocab.size())?;
    if named.is_some() {
        return Ok(named);
    }
    let found = texts.iter().filter_map(|text| vocab.find(text)).min();
    if let Some(id) = found {
        vocab.set_type(id, TokenType::Control);
    }
    Ok(found)
}

/// Takes out what does not end a turn in models that have other tokens for that.
fn unmark(vocab: &mut Vocab, ids: &mut Vec<u32>) {
    let has = |ids: &[u32], text| vocab.find(text).filter(|id| ids.contains(id)).is_some();
    let calls = has(ids, "<|call|>") || has(ids, "<|calls|>");
    let harmony = calls && (has(ids, "<|return|>") || has(ids, "<|flush|>"));
    let plain_s = has(ids, "<|tool_response>") || has(ids, "<|plamo:eos|>");
    for (text, is_other, becomes) in
        [("<|end|>", harmony, TokenType::UserDefined), ("</s>", plain_s, TokenType::Normal)]
    {
        if let Some(id) = vocab.find(text).filter(|id| is_other && ids.contains(id)) {
            ids.retain(|other| *other != id);
            vocab.set_type(id, becomes);
        }
    }
}

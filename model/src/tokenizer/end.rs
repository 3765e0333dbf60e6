//! Which tokens end a model's answer.

use std::collections::HashSet;

use super::Error;
use super::vocab::{TokenType, Vocab, special_id};
use crate::gguf::Metadata;

/// Metadata names of tokens that end a turn (`tokenizer.ggml.{name}_token_id`).
const ROLES: [&str; 6] = ["eos", "eot", "eom", "fim_pad", "fim_rep", "fim_sep"];

/// Texts of tokens that end a turn, after llama.cpp: converters often forget to say so.
const TEXTS: [&str; 30] = [
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
    // The middle of fill-in-the-middle, and another file.
    "<|fim_pad|>",
    "<fim-pad>",
    "<fim_pad>",
    "<PAD>",
    "<|fim_repo|>",
    "<|repo_name|>",
    "<reponame>",
    "<|file_sep|>",
];

/// Which tokens end generation, by id; those become control tokens, whatever their type was.
pub(super) fn mark(vocab: &mut Vocab, metadata: &Metadata) -> Result<Vec<bool>, Error> {
    let texts = HashSet::from(TEXTS);
    let mut ids: Vec<u32> =
        vocab.iter().filter(|(_, text, _)| texts.contains(text)).map(|(id, ..)| id).collect();
    ids.iter().for_each(|&id| vocab.set_type(id, TokenType::Control));
    ids.extend(vocab.eos);
    for role in ROLES {
        ids.extend(special_id(metadata, role, vocab.size())?);
    }
    let ids = HashSet::<u32>::from_iter(ids);
    Ok((0..vocab.size()).map(|id| ids.contains(&id)).collect())
}

//! Which kinds of vocabularies there are: what `tokenizer.ggml.model` says.

/// Byte-level BPE.
pub(super) const BPE: &str = "gpt2";
/// SentencePiece BPE, whatever the network is.
pub(super) const SPM: &str = "llama";
/// WordPiece.
pub(super) const WORDPIECE: &str = "bert";
/// BPE by merges over plain text, as Gemma 4 has it.
pub(super) const GEMMA4: &str = "gemma4";

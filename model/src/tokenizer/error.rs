//! Errors of building and using a tokenizer.

use super::models;
use crate::{ErrorKind, gguf};

/// Why a tokenizer cannot be built or used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A metadata value has the wrong type.
    #[error(transparent)]
    Gguf(#[from] gguf::Error),
    /// A key that is needed.
    #[error(
        "key {key:?} is missing, so the file holds no usable tokenizer: convert the model again with a current converter"
    )]
    Missing {
        /// The key.
        key: &'static str,
    },
    /// A kind of tokenizer that is not supported.
    #[error(
        "tokenizer.ggml.model {found:?} is not supported, only {:?}, {:?}, {:?} and {:?} are: choose a model with one of these",
        models::BPE,
        models::SPM,
        models::GEMMA4,
        models::WORDPIECE
    )]
    Model {
        /// What the key says.
        found: String,
    },
    /// A pre-tokenizer that is not supported.
    #[error(
        "tokenizer.ggml.pre {found:?} is not supported (only {supported}); another one would cut text wrongly"
    )]
    PreTokenizer {
        /// What the key says.
        found: String,
        /// Names of those that are supported.
        supported: String,
    },
    /// More of something than any model has.
    #[error(
        "{count} {what}, more than the limit of {limit}: no known model needs that, the file is not trustworthy"
    )]
    Limit {
        /// What is counted.
        what: &'static str,
        /// How many there are.
        count: usize,
        /// The most that is accepted.
        limit: usize,
    },
    /// Arrays that must be as long as the token list and are not.
    #[error("key {key:?} has {found} elements for {tokens} tokens: the file is damaged")]
    Length {
        /// The key.
        key: &'static str,
        /// Its length.
        found: usize,
        /// Number of tokens.
        tokens: usize,
    },
    /// The same text for two tokens.
    #[error(
        "tokens {first} and {second} are both {text:?}: it is not clear which is meant; convert the model again"
    )]
    DuplicateToken {
        /// Id of the first.
        first: u32,
        /// Id of the second.
        second: u32,
        /// Their text.
        text: String,
    },
    /// A token type that is not known.
    #[error(
        "token {id} has type {kind}, known are 0 to 6: convert the model again with a current converter"
    )]
    TokenType {
        /// The token.
        id: u32,
        /// The number found.
        kind: i32,
    },
    /// A byte token that names no byte.
    #[error(
        "token {id} is a byte token, but its text {text:?} is not of the form <0x00>: the file is damaged"
    )]
    ByteToken {
        /// The token.
        id: u32,
        /// Its text.
        text: String,
    },
    /// A special token that is not in the vocabulary.
    #[error(
        "key {key:?} names token {id}, but there are only {tokens}: the file mixes parts of different models"
    )]
    SpecialId {
        /// The key.
        key: String,
        /// The id.
        id: u64,
        /// Number of tokens.
        tokens: u32,
    },
    /// A token to be added that is not named.
    #[error("key {key:?} asks to add a token that the file does not name: convert the model again")]
    NothingToAdd {
        /// The key.
        key: &'static str,
    },
    /// A merge that is not two tokens which make a third.
    #[error(
        "merge {index} is {text:?}: it must be two tokens, separated by a space, that together are a third; convert the model again"
    )]
    Merge {
        /// Place in `tokenizer.ggml.merges`.
        index: usize,
        /// The entry.
        text: String,
    },
    /// A vocabulary that cannot express every text.
    #[error(
        "the vocabulary has no token for byte {byte:#04x} and no unknown token, so it cannot express every text: convert the model again"
    )]
    MissingByte {
        /// The byte.
        byte: u8,
    },
    /// The tokenizer's library refused.
    #[error("cannot build the tokenizer: {reason}")]
    Build {
        /// What the library said.
        reason: String,
    },
    /// The tokenizer's library failed on a text.
    #[error("cannot encode the text: {reason}")]
    Encode {
        /// What the library said.
        reason: String,
    },
    /// An id that is not in the vocabulary.
    #[error("token id {id} is not in the vocabulary of {vocab} tokens")]
    UnknownId {
        /// The id.
        id: u32,
        /// Number of tokens.
        vocab: u32,
    },
}

impl Error {
    /// What went wrong, for programs that act on it.
    #[must_use]
    pub const fn kind(&self) -> ErrorKind {
        match self {
            Self::Gguf(error) => error.kind(),
            Self::Model { .. } | Self::PreTokenizer { .. } => ErrorKind::Unsupported,
            Self::UnknownId { .. } | Self::Encode { .. } => ErrorKind::InvalidArgument,
            _ => ErrorKind::InvalidFile,
        }
    }
}

//! SentencePiece BPE, as Llama 2 and Gemma use it.

use std::cmp::Ordering;

use super::joiner::{Ranked, join};
use super::special::controls;
use super::vocab::Vocab;
use super::{Error, bytes};
use crate::gguf::Metadata;

/// SentencePiece BPE: of all neighbors that together are a token, those with the best score
/// are joined first.
#[derive(Debug)]
pub(super) struct Spm {
    scores: Vec<f32>,
    /// What each byte becomes that is in no token.
    fallback: Vec<Option<u32>>,
    unknown: Option<u32>,
    space_prefix: bool,
}

impl Spm {
    pub(super) fn new(vocab: &Vocab, metadata: &Metadata) -> Result<Self, Error> {
        let key = "tokenizer.ggml.scores";
        let count = vocab.size() as usize;
        let scores = match metadata.f32s(key)? {
            Some(scores) if scores.len() != count => {
                return Err(Error::Length { key, found: scores.len(), tokens: count });
            }
            Some(scores) => scores.to_vec(),
            None => {
                // As llama.cpp does: the first neighbors are joined first.
                tracing::warn!(key, "the key is missing: all tokens have the same score");
                vec![0.0; count]
            }
        };
        let byte = |byte: u8| vocab.find(&bytes::to_hex(byte));
        let fallback: Vec<_> = (0..=255).map(byte).collect();
        if let (Some(byte), None) = (fallback.iter().position(Option::is_none), vocab.unknown) {
            return Err(Error::MissingByte { byte: u8::try_from(byte).unwrap_or(u8::MAX) });
        }
        let space_prefix = metadata.bool("tokenizer.ggml.add_space_prefix")?.unwrap_or(true);
        Ok(Self { scores, fallback, unknown: vocab.unknown, space_prefix })
    }

    pub(super) fn adds_space_prefix(&self) -> bool {
        self.space_prefix
    }

    /// Appends the ids of `text`, which follows a special token or nothing if `first`.
    pub(super) fn encode(&self, vocab: &Vocab, text: &str, first: bool, ids: &mut Vec<u32>) {
        let mut escaped = text.replace(' ', "▁");
        if first && self.space_prefix {
            escaped.insert(0, '▁');
        }
        let mut tokens = Tokens { vocab, scores: &self.scores };
        for piece in join(&escaped, &mut tokens) {
            match find(vocab, piece) {
                Some(id) => ids.push(id),
                None => ids.extend(
                    piece
                        .bytes()
                        .filter_map(|byte| self.fallback[usize::from(byte)].or(self.unknown)),
                ),
            }
        }
    }
}

/// The token that text may become: control tokens are looked for beforehand; text never joins
/// to one.
fn find(vocab: &Vocab, text: &str) -> Option<u32> {
    let id = vocab.find(text)?;
    vocab.token_type(id).filter(|kind| !controls(text, *kind)).map(|_| id)
}

/// Scores of what neighbors become.
struct Tokens<'a> {
    vocab: &'a Vocab,
    scores: &'a [f32],
}

impl Ranked for Tokens<'_> {
    type Rank = Score;

    fn rank(&mut self, whole: &str, _: usize) -> Option<Score> {
        let id = find(self.vocab, whole)?;
        // There is one zero.
        self.scores.get(id as usize).map(|score| Score(score + 0.0))
    }
}

/// A score; those that are no numbers have some order, too.
struct Score(f32);

impl Ord for Score {
    fn cmp(&self, other: &Self) -> Ordering {
        self.0.total_cmp(&other.0)
    }
}

impl PartialOrd for Score {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Score {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Score {}

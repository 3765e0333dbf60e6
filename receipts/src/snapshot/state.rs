//! All of a snapshot but logits, keys and values: what is small.

use std::collections::BTreeMap;
use std::io::{Read, Write};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::reader::Reader;
use super::writer::Writer;
use super::{WHAT, tag};
use crate::error::{Error, Result};
use crate::identity::Identity;

/// The state of a sequence, without logits, keys and values.
///
/// See the [module](super) for an example.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct State {
    /// What it is the state of.
    pub meta: Meta,
    /// The whole sequence. Those from [`Meta::position`] on are not computed yet.
    pub tokens: Vec<u32>,
    /// How the tokens of an answer are chosen.
    pub answer: Option<AnswerState>,
    /// The turns of a conversation.
    pub turns: Option<Vec<Turn>>,
}

/// What decides about bits, and how many positions have keys and values.
///
/// ```
/// use polychord_receipts::snapshot::Meta;
/// use polychord_receipts::{Digest, Identity};
///
/// let identity = Identity::new(Digest::of("model"), Digest::of("guest"));
/// assert_eq!(Meta::new(identity, 12).position, 12);
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct Meta {
    /// Model, guest and options.
    pub identity: Identity,
    /// How many tokens were computed, and have rows.
    pub position: u32,
}

/// How the tokens of an answer are chosen, and how far that is.
///
/// ```
/// use polychord_receipts::snapshot::AnswerState;
///
/// let greedy = AnswerState::new([("temperature".into(), "0".into())].into(), 0, 5);
/// assert_eq!(greedy.begin, 5);
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct AnswerState {
    /// Options of the sampler by name, with the seed of its random numbers.
    pub sampling: BTreeMap<String, String>,
    /// How many random numbers of 64 bits were drawn.
    pub drawn: u64,
    /// Which token of the sequence is the first of the answer.
    pub begin: u32,
}

/// One turn of a conversation.
///
/// ```
/// use polychord_receipts::snapshot::Turn;
///
/// assert_eq!(Turn::new("user", "Hello").role, "user");
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct Turn {
    /// Who says it, such as `user`.
    pub role: String,
    /// What is said.
    pub content: String,
}

impl Meta {
    /// That many positions of a model, a guest and options.
    #[must_use]
    pub const fn new(identity: Identity, position: u32) -> Self {
        Self { identity, position }
    }
}

impl AnswerState {
    /// An answer that begins at a token, after that many random numbers.
    #[must_use]
    pub const fn new(sampling: BTreeMap<String, String>, drawn: u64, begin: u32) -> Self {
        Self { sampling, drawn, begin }
    }
}

impl Turn {
    /// A turn.
    pub fn new(role: impl Into<String>, content: impl Into<String>) -> Self {
        Self { role: role.into(), content: content.into() }
    }
}

impl State {
    /// The state of a sequence.
    pub fn new(meta: Meta, tokens: impl Into<Vec<u32>>) -> Self {
        Self { meta, tokens: tokens.into(), answer: None, turns: None }
    }

    /// Writes its sections.
    ///
    /// # Errors
    ///
    /// [`Error::Io`].
    pub fn write<W: Write>(&self, writer: &mut Writer<W>) -> Result<()> {
        put_json(writer, tag::META, &self.meta)?;
        writer.begin(tag::TOKENS, self.tokens.len() as u64 * 4)?;
        for token in &self.tokens {
            writer.write(&token.to_le_bytes())?;
        }
        if let Some(answer) = &self.answer {
            put_json(writer, tag::ANSWER, answer)?;
        }
        if let Some(turns) = &self.turns {
            put_json(writer, tag::TURNS, turns)?;
        }
        Ok(())
    }

    /// Reads its sections, of a sequence of at most `most` tokens.
    ///
    /// # Errors
    ///
    /// [`Error::Damaged`] if they contradict each other, [`Error::TooLarge`] for more tokens, and
    /// the errors of [`Reader::next_section`].
    pub fn read<R: Read>(reader: &mut Reader<R>, most: u32) -> Result<Self> {
        let meta = Self::read_meta(reader)?;
        Self::read_rest(reader, meta, most)
    }

    /// Reads what it is the state of, which a caller may check before it goes on.
    ///
    /// # Errors
    ///
    /// Returns the errors of [`read`](Self::read).
    pub fn read_meta<R: Read>(reader: &mut Reader<R>) -> Result<Meta> {
        let missing = || Error::damaged(WHAT, "its beginning", "the section META is missing");
        take_json(reader, tag::META)?.ok_or_else(missing)
    }

    /// Reads what follows [`read_meta`](Self::read_meta).
    ///
    /// # Errors
    ///
    /// Returns the errors of [`read`](Self::read).
    pub fn read_rest<R: Read>(reader: &mut Reader<R>, meta: Meta, most: u32) -> Result<Self> {
        if reader.find_section(tag::TOKENS)?.is_none() {
            return Err(Error::damaged(WHAT, "its beginning", "the section TOKN is missing"));
        }
        let bytes = reader.read_all(tag::TOKENS, u64::from(most) * 4)?;
        let (words, rest) = bytes.as_chunks::<4>();
        let tokens: Vec<_> = words.iter().map(|word| u32::from_le_bytes(*word)).collect();
        let wrong = |reason: String| Err(Error::damaged(WHAT, "the section TOKN", reason));
        if !rest.is_empty() {
            return wrong("it does not have four bytes for each token".into());
        }
        if meta.position as usize > tokens.len() {
            return wrong(format!("{} tokens have {} positions", tokens.len(), meta.position));
        }
        let answer: Option<AnswerState> = take_json(reader, tag::ANSWER)?;
        if let Some(answer) = answer.as_ref().filter(|it| it.begin as usize > tokens.len()) {
            let reason = format!("{} tokens have an answer from {} on", tokens.len(), answer.begin);
            return Err(Error::damaged(WHAT, "the section ANSW", reason));
        }
        let turns = take_json(reader, tag::TURNS)?;
        Ok(Self { meta, tokens, answer, turns })
    }
}

/// Most bytes of a section with JSON: 16 MiB, which a long conversation takes.
const MOST_JSON: u64 = 16 << 20;

fn put_json<W: Write>(writer: &mut Writer<W>, tag: [u8; 4], value: &impl Serialize) -> Result<()> {
    let json = serde_json::to_vec(value).map_err(|error| json_error(tag, &error))?;
    writer.begin(tag, json.len() as u64)?;
    writer.write(&json)
}

fn take_json<R: Read, T: DeserializeOwned>(
    reader: &mut Reader<R>,
    tag: [u8; 4],
) -> Result<Option<T>> {
    if reader.find_section(tag)?.is_none() {
        return Ok(None);
    }
    let json = reader.read_all(tag, MOST_JSON)?;
    serde_json::from_slice(&json).map(Some).map_err(|error| json_error(tag, &error))
}

fn json_error(tag: [u8; 4], error: &serde_json::Error) -> Error {
    Error::damaged(
        WHAT,
        format!("the section {}", String::from_utf8_lossy(&tag)),
        error.to_string(),
    )
}

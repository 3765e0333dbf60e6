//! Special tokens in text, and which of them steer the model.

use std::ops::Range;

use aho_corasick::{AhoCorasick, Input, MatchKind};

use super::Error;
use super::vocab::{TokenType, Vocab};

/// Most bytes of all special tokens together.
const MAX_BYTES: usize = 1 << 20;

/// Finds special tokens in text: the longest of those that start first.
#[derive(Debug)]
pub(super) struct Specials {
    always: Finder,
    when_asked: Finder,
    /// User-defined tokens that no conversation is built of.
    in_messages: Finder,
}

/// Whether the texts of control tokens become those tokens.
///
/// ```no_run
/// use polychord_model::tokenizer::{Error, SpecialTokens, Tokenizer};
///
/// fn encode(tokenizer: &Tokenizer) -> Result<(), Error> {
///     // One control token, and then its name as plain text.
///     assert_eq!(tokenizer.encode("<|im_end|>", SpecialTokens::Parse)?.len(), 1);
///     assert!(tokenizer.encode("<|im_end|>", SpecialTokens::AsText)?.len() > 1);
///     Ok(())
/// }
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum SpecialTokens {
    /// Control tokens, as in a prompt that is written for the model.
    Parse,
    /// Plain text, as in the words of users who must not control the model.
    AsText,
}

/// A piece of text, or a special token that stood there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Span<'a> {
    Text(&'a str),
    Token(u32),
}

impl Specials {
    pub(super) fn new(vocab: &Vocab) -> Result<Self, Error> {
        let user_defined = |token_type| token_type == TokenType::UserDefined;
        let special = |token_type| {
            matches!(token_type, TokenType::UserDefined | TokenType::Control | TokenType::Unknown)
        };
        Ok(Self {
            always: Finder::new(vocab, |_, token_type| user_defined(token_type))?,
            when_asked: Finder::new(vocab, |_, token_type| special(token_type))?,
            in_messages: Finder::new(vocab, |text, token_type| {
                user_defined(token_type) && !controls(text, token_type)
            })?,
        })
    }

    /// Cuts `text` at user-defined tokens and, if asked to, at control tokens.
    pub(super) fn split<'a>(&self, text: &'a str, special: SpecialTokens) -> Vec<Span<'a>> {
        let finder = match special {
            SpecialTokens::Parse => &self.when_asked,
            SpecialTokens::AsText => &self.always,
        };
        cut(text, |from| finder.find(text, from..text.len()))
    }

    /// Cuts `text` at special tokens that lie in one of the `trusted` ranges, which are in
    /// order, and everywhere at tokens that are mere text.
    pub(super) fn split_trusted<'a>(
        &self,
        text: &'a str,
        trusted: impl Iterator<Item = Range<usize>>,
    ) -> Vec<Span<'a>> {
        let mut trusted = trusted.peekable();
        let (mut special, mut plain) = (None, None);
        let mut plain_ended = false;
        cut(text, |from| {
            // What was found is kept until it is passed, so no byte is searched twice.
            if special.as_ref().is_none_or(|found: &Found| found.range.start < from) {
                special = None;
                while let Some(range) = trusted.peek() {
                    let start = range.start.max(from);
                    if start < range.end {
                        special = self.when_asked.find(text, start..range.end);
                    }
                    if special.is_some() {
                        break;
                    }
                    trusted.next();
                }
            }
            if !plain_ended && plain.as_ref().is_none_or(|found: &Found| found.range.start < from) {
                plain = self.in_messages.find(text, from..text.len());
                plain_ended = plain.is_none();
            }
            match (&special, &plain) {
                (Some(special), Some(plain)) => {
                    let key = |found: &Found| (found.range.start, usize::MAX - found.range.end);
                    Some(if key(plain) < key(special) { plain } else { special }.clone())
                }
                (special, plain) => special.as_ref().or(plain.as_ref()).cloned(),
            }
        })
    }
}

/// Whether a token may steer the model: control tokens, and user-defined ones that look like it
/// (`<start_of_turn>`), since converters do not agree about types.
pub(super) fn controls(text: &str, token_type: TokenType) -> bool {
    let markup = text.starts_with(['<', '[']) && text.ends_with(['>', ']']);
    match token_type {
        TokenType::Control | TokenType::Unknown => true,
        TokenType::UserDefined => markup,
        _ => false,
    }
}

/// Cuts `text` where `find` finds the next token.
fn cut(text: &str, mut find: impl FnMut(usize) -> Option<Found>) -> Vec<Span<'_>> {
    let mut parts = Vec::new();
    let mut done = 0;
    while let Some(Found { id, range }) = find(done) {
        if range.start > done {
            parts.push(Span::Text(&text[done..range.start]));
        }
        parts.push(Span::Token(id));
        done = range.end;
    }
    if done < text.len() {
        parts.push(Span::Text(&text[done..]));
    }
    parts
}

/// A token in a text.
#[derive(Clone, Debug)]
struct Found {
    id: u32,
    range: Range<usize>,
}

#[derive(Debug)]
struct Finder {
    automaton: AhoCorasick,
    ids: Vec<u32>,
}

impl Finder {
    fn new(vocab: &Vocab, wanted: impl Fn(&str, TokenType) -> bool) -> Result<Self, Error> {
        let (ids, texts): (Vec<_>, Vec<_>) = vocab
            .iter()
            .filter(|&(_, text, token_type)| wanted(text, token_type) && !text.is_empty())
            .map(|(id, text, _)| (id, text))
            .unzip();
        let count = texts.iter().map(|text| text.len()).sum();
        if count > MAX_BYTES {
            return Err(Error::Limit { what: "bytes of special tokens", count, limit: MAX_BYTES });
        }
        let automaton = AhoCorasick::builder()
            .match_kind(MatchKind::LeftmostLongest)
            .build(texts)
            .map_err(|error| Error::Build { reason: error.to_string() })?;
        Ok(Self { automaton, ids })
    }

    fn find(&self, text: &str, range: Range<usize>) -> Option<Found> {
        let found = self.automaton.find(Input::new(text).range(range))?;
        Some(Found { id: self.ids[found.pattern().as_usize()], range: found.range() })
    }
}

use aho_corasick::{AhoCorasick, MatchKind};

use super::Error;
use super::vocab::{TokenType, Vocab};

/// Most bytes of all special tokens together.
const MAX_BYTES: usize = 1 << 20;

/// Finds special tokens in text: the longest of those that start first.
#[derive(Debug)]
pub(super) struct Specials {
    always: Finder,
    when_asked: Finder,
}

/// A piece of text, or a special token that stood there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Part<'a> {
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
            always: Finder::new(vocab, user_defined)?,
            when_asked: Finder::new(vocab, special)?,
        })
    }

    /// Cuts `text` at user-defined tokens and, with `special`, at control tokens.
    pub(super) fn split<'a>(&self, text: &'a str, special: bool) -> Vec<Part<'a>> {
        if special { self.when_asked.split(text) } else { self.always.split(text) }
    }
}

#[derive(Debug)]
struct Finder {
    automaton: AhoCorasick,
    ids: Vec<u32>,
}

impl Finder {
    fn new(vocab: &Vocab, wanted: impl Fn(TokenType) -> bool) -> Result<Self, Error> {
        let (ids, texts): (Vec<_>, Vec<_>) = vocab
            .iter()
            .filter(|&(_, text, token_type)| wanted(token_type) && !text.is_empty())
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

    fn split<'a>(&self, text: &'a str) -> Vec<Part<'a>> {
        let mut parts = Vec::new();
        let mut done = 0;
        for found in self.automaton.find_iter(text) {
            if found.start() > done {
                parts.push(Part::Text(&text[done..found.start()]));
            }
            parts.push(Part::Token(self.ids[found.pattern().as_usize()]));
            done = found.end();
        }
        if done < text.len() {
            parts.push(Part::Text(&text[done..]));
        }
        parts
    }
}

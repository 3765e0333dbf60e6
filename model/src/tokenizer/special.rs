//! Special tokens in text, and which of them steer the model.

use std::ops::Range;
use std::sync::OnceLock;

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
    /// Tokens that take the white space behind them, in order.
    strips: Vec<u32>,
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
    /// Of a model with this name, which decides about white space.
    pub(super) fn new(vocab: &Vocab, model_name: &str) -> Result<Self, Error> {
        let user_defined = |token_type| token_type == TokenType::UserDefined;
        let special = |token_type| {
            matches!(token_type, TokenType::UserDefined | TokenType::Control | TokenType::Unknown)
        };
        let all = vocab.types().filter(|(_, token_type)| special(*token_type)).map(|(id, _)| id);
        let when_asked = Finder::new(vocab, all, |_, _| true)?;
        let some = || when_asked.ids.iter().copied();
        Ok(Self {
            always: Finder::new(vocab, some(), |_, token_type| user_defined(token_type))?,
            in_messages: Finder::new(vocab, some(), |text, token_type| {
                user_defined(token_type) && !controls(text, token_type)
            })?,
            strips: strips(vocab, model_name, &when_asked.ids),
            when_asked,
        })
    }

    /// Cuts `text` at user-defined tokens and, if asked to, at control tokens.
    pub(super) fn split<'a>(
        &self,
        vocab: &Vocab,
        text: &'a str,
        special: SpecialTokens,
    ) -> Result<Vec<Span<'a>>, Error> {
        let finder = match special {
            SpecialTokens::Parse => &self.when_asked,
            SpecialTokens::AsText => &self.always,
        };
        self.cut(text, |from| finder.find(vocab, text, from..text.len()))
    }

    /// Cuts `text` at special tokens that lie in one of the `trusted` ranges, which are in
    /// order, and everywhere at tokens that are mere text.
    pub(super) fn split_trusted<'a>(
        &self,
        vocab: &Vocab,
        text: &'a str,
        trusted: impl Iterator<Item = Range<usize>>,
    ) -> Result<Vec<Span<'a>>, Error> {
        let mut trusted = trusted.peekable();
        let (mut special, mut plain) = (None, None);
        let mut plain_ended = false;
        self.cut(text, |from| {
            // What was found is kept until it is passed, so no byte is searched twice.
            if special.as_ref().is_none_or(|found: &Found| found.range.start < from) {
                special = None;
                while let Some(range) = trusted.peek() {
                    let start = range.start.max(from);
                    if start < range.end {
                        special = self.when_asked.find(vocab, text, start..range.end)?;
                    }
                    if special.is_some() {
                        break;
                    }
                    trusted.next();
                }
            }
            if !plain_ended && plain.as_ref().is_none_or(|found: &Found| found.range.start < from) {
                plain = self.in_messages.find(vocab, text, from..text.len())?;
                plain_ended = plain.is_none();
            }
            Ok(match (&special, &plain) {
                (Some(special), Some(plain)) => {
                    let key = |found: &Found| (found.range.start, usize::MAX - found.range.end);
                    Some(if key(plain) < key(special) { plain } else { special }.clone())
                }
                (special, plain) => special.as_ref().or(plain.as_ref()).cloned(),
            })
        })
    }

    /// Cuts `text` where `find` finds the next token.
    fn cut<'a>(
        &self,
        text: &'a str,
        mut find: impl FnMut(usize) -> Result<Option<Found>, Error>,
    ) -> Result<Vec<Span<'a>>, Error> {
        let mut parts = Vec::new();
        let mut done = 0;
        while let Some(Found { id, range }) = find(done)? {
            if range.start > done {
                parts.push(Span::Text(&text[done..range.start]));
            }
            parts.push(Span::Token(id));
            done = range.end;
            if self.strips.binary_search(&id).is_ok() {
                let is_space = |byte: &u8| matches!(byte, b' ' | b'\t'..=b'\r');
                done += text.as_bytes()[done..].iter().take_while(|byte| is_space(byte)).count();
            }
        }
        if done < text.len() {
            parts.push(Span::Text(&text[done..]));
        }
        Ok(parts)
    }
}

/// The special tokens that take the white space behind them. The metadata do not say so: it is
/// known of Phi-3 alone, by its name.
fn strips(vocab: &Vocab, model_name: &str, specials: &[u32]) -> Vec<u32> {
    let name = model_name.to_ascii_lowercase();
    if !name.contains("phi-3") && !name.contains("phi3") {
        return Vec::new();
    }
    let keeps = ["<unk>", "<s>", "<|endoftext|>"];
    let mut ids: Vec<_> = specials.iter().copied().chain(vocab.find("</s>")).collect();
    ids.retain(|id| vocab.text(*id).is_some_and(|text| !keeps.contains(&text)));
    ids.sort_unstable();
    ids.dedup();
    ids
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

/// A token in a text.
#[derive(Clone, Debug)]
struct Found {
    id: u32,
    range: Range<usize>,
}

/// Finds some tokens. Most runs need one or two of these, and the one over all unused tokens of a
/// large vocabulary takes longer than its text, so each is made when it is first needed.
#[derive(Debug)]
struct Finder {
    ids: Vec<u32>,
    automaton: OnceLock<AhoCorasick>,
}

impl Finder {
    fn new(
        vocab: &Vocab,
        from: impl Iterator<Item = u32>,
        wanted: impl Fn(&str, TokenType) -> bool,
    ) -> Result<Self, Error> {
        let (mut ids, mut count) = (Vec::new(), 0);
        for id in from {
            let (Some(text), Some(token_type)) = (vocab.text(id), vocab.token_type(id)) else {
                continue;
            };
            if !text.is_empty() && wanted(text, token_type) {
                ids.push(id);
                count += text.len();
            }
        }
        if count > MAX_BYTES {
            return Err(Error::Limit { what: "bytes of special tokens", count, limit: MAX_BYTES });
        }
        Ok(Self { ids, automaton: OnceLock::new() })
    }

    fn find(&self, vocab: &Vocab, text: &str, range: Range<usize>) -> Result<Option<Found>, Error> {
        let automaton = match self.automaton.get() {
            Some(automaton) => automaton,
            None => {
                let texts = self.ids.iter().map(|id| vocab.text(*id).unwrap_or_default());
                let automaton = AhoCorasick::builder()
                    .match_kind(MatchKind::LeftmostLongest)
                    .build(texts)
                    .map_err(|error| Error::Build { reason: error.to_string() })?;
                self.automaton.get_or_init(|| automaton)
            }
        };
        let found = automaton.find(Input::new(text).range(range));
        Ok(found.map(|it| Found { id: self.ids[it.pattern().as_usize()], range: it.range() }))
    }
}

//! WordPiece, as BERT and its kin use it: words are cut into the longest tokens, from left to right.

use std::sync::LazyLock;

use unicode_normalization::char::decompose_canonical;

use super::Error;
use super::classes::{Class, class, ranges_of};
use super::vocab::Vocab;
use crate::gguf::Metadata;

/// WordPiece, in the spelling of GGUF: tokens that begin a word have `▁` in front.
#[derive(Debug)]
pub(super) struct WordPiece {
    /// Tokens, ordered by their texts.
    sorted: Vec<u32>,
    unknown: u32,
    lowercase: bool,
    strip_accents: bool,
}

impl WordPiece {
    pub(super) fn new(vocab: &Vocab, metadata: &Metadata) -> Result<Self, Error> {
        let key = "tokenizer.ggml.unknown_token_id";
        let unknown = vocab.unknown.ok_or(Error::Missing { key })?;
        let lowercase = metadata.bool("tokenizer.ggml.normalizer.lowercase")?.unwrap_or(true);
        let strip_accents = metadata.bool("tokenizer.ggml.normalizer.strip_accents")?;
        let text = |id: u32| vocab.text(id).unwrap_or_default();
        let mut keyed: Vec<_> = (0..vocab.size()).map(|id| (start(text(id)), id)).collect();
        keyed.sort_unstable_by(|(a, left), (b, right)| {
            a.cmp(b).then_with(|| text(*left).cmp(text(*right)))
        });
        let sorted = keyed.into_iter().map(|(_, id)| id).collect();
        let strip_accents = strip_accents.unwrap_or(lowercase);
        Ok(Self { sorted, unknown, lowercase, strip_accents })
    }

    /// Appends the ids of `text`.
    pub(super) fn encode(&self, vocab: &Vocab, text: &str, ids: &mut Vec<u32>) {
        self.each_word(text, |word| {
            let before = ids.len();
            let mut rest = word;
            while !rest.is_empty() {
                let Some((id, len)) = self.longest(vocab, rest) else {
                    // A word of which a part is in no token is none of them.
                    ids.truncate(before);
                    ids.push(self.unknown);
                    return;
                };
                ids.push(id);
                rest = &rest[len..];
            }
        });
    }

    /// The longest token that a text begins with, and how many bytes it has.
    fn longest(&self, vocab: &Vocab, text: &str) -> Option<(u32, usize)> {
        let byte = |id: u32, at: usize| vocab.text(id).and_then(|text| text.as_bytes().get(at));
        let mut candidates = &self.sorted[..];
        let mut longest = None;
        for (at, wanted) in text.bytes().enumerate() {
            // All of them have the same bytes up to here; shorter ones come first.
            let start = candidates.partition_point(|id| byte(*id, at) < Some(&wanted));
            let end = candidates.partition_point(|id| byte(*id, at) <= Some(&wanted));
            candidates = &candidates[start..end];
            let Some(&first) = candidates.first() else { break };
            let len = at + 1;
            if vocab.text(first).is_some_and(|text| text.len() == len) {
                longest = Some((first, len));
            }
        }
        longest
    }

    /// Calls `use_word` with each word, which begins with `▁`: what is between white space, where
    /// punctuation and Chinese characters are words by themselves.
    fn each_word(&self, text: &str, mut use_word: impl FnMut(&str)) {
        const START: &str = "▁";
        let mut word = String::from(START);
        let mut end = |word: &mut String| {
            if word.len() > START.len() {
                use_word(word);
                word.truncate(START.len());
            }
        };
        for c in text.chars() {
            let c = if self.strip_accents { base(c) } else { c };
            let its = class(c);
            match its {
                Class::Space => {
                    end(&mut word);
                    continue;
                }
                Class::Mark if self.strip_accents => continue,
                Class::Other if c == '\0' || is_control(c) => continue,
                _ if c == char::REPLACEMENT_CHARACTER => continue,
                _ => {}
            }
            let lower = if self.lowercase { c.to_lowercase().next() } else { None };
            let is_alone =
                its == Class::Punctuation || its == Class::Symbol && c < '\x7f' || is_chinese(c);
            if is_alone {
                end(&mut word);
            }
            word.push(lower.unwrap_or(c));
            if is_alone {
                end(&mut word);
            }
        }
        end(&mut word);
    }
}

/// The first bytes of a text, which are ordered as texts are; those that are not there count as 0.
/// Few texts must be read again to be ordered, which are all over the memory.
fn start(text: &str) -> u128 {
    let mut bytes = [0; 16];
    bytes.iter_mut().zip(text.bytes()).for_each(|(to, from)| *to = from);
    u128::from_be_bytes(bytes)
}

/// A character without its accents: the first one of what it is made of, as llama.cpp has it.
fn base(c: char) -> char {
    let mut first = None;
    decompose_canonical(c, |part| first = first.or(Some(part)));
    first.unwrap_or(c)
}

/// Whether a character is for control, format or private use.
fn is_control(c: char) -> bool {
    static CONTROL: LazyLock<Vec<(char, char)>> =
        LazyLock::new(|| ranges_of(r"[\p{Cc}\p{Cf}\p{Co}]").collect());
    let after = CONTROL.partition_point(|(start, _)| *start <= c);
    after.checked_sub(1).and_then(|at| CONTROL.get(at)).is_some_and(|(_, end)| c <= *end)
}

const fn is_chinese(c: char) -> bool {
    matches!(c,
        '\u{4e00}'..='\u{9fff}'
        | '\u{3400}'..='\u{4dbf}'
        | '\u{20000}'..='\u{2a6df}'
        | '\u{2a700}'..='\u{2b73f}'
        | '\u{2b740}'..='\u{2b81f}'
        // From 2b820 on, but the tokenizers that models were trained with begin here.
        | '\u{2b920}'..='\u{2ceaf}'
        | '\u{f900}'..='\u{faff}'
        | '\u{2f800}'..='\u{2fa1f}')
}

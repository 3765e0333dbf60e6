//! BPE by ranks of merges, as GPT-2, Llama 3 and Gemma 4 use it.

use std::cmp::Reverse;
use std::sync::OnceLock;

use super::index::Index;
use super::joiner::{Ranked, join};
use super::special::controls;
use super::split::PreTokenizer;
use super::vocab::{Spelling, Vocab};
use super::{Error, bytes};
use crate::gguf::{Metadata, StringArray};

const MAX_MERGES: usize = 1 << 22;

/// How many merges are looked at to see whether they are of this vocabulary.
const SAMPLE: usize = 16;

/// BPE: words are spelled as the vocabulary does it, then merged by rank.
#[derive(Debug)]
pub(super) struct Bpe {
    pre: PreTokenizer,
    /// In the order of their ranks: two tokens with a space between them. Shared with the metadata.
    merges: StringArray,
    /// Merges by their text, made when a word is first cut: there are half a million in some files.
    index: OnceLock<Index>,
}

impl Bpe {
    pub(super) fn new(
        vocab: &Vocab,
        metadata: &Metadata,
        pre: PreTokenizer,
    ) -> Result<Self, Error> {
        let key = "tokenizer.ggml.merges";
        let merges = metadata.strings(key)?.ok_or(Error::Missing { key })?;
        check(merges, vocab)?;
        Ok(Self { pre, merges: merges.clone(), index: OnceLock::new() })
    }

    /// Appends the ids of `text`.
    pub(super) fn encode(&self, vocab: &Vocab, text: &str, ids: &mut Vec<u32>) {
        let escaped;
        let text = match vocab.spelling() {
            Spelling::Bpe => text,
            Spelling::Raw | Spelling::Spm | Spelling::WordPiece => {
                escaped = text.replace(' ', "▁");
                &escaped
            }
        };
        let mut spelled = String::new();
        let mut merges = Merges { of: self, entry: String::new() };
        for word in self.pre.split(text) {
            let word = if vocab.spelling() == Spelling::Bpe {
                spelled.clear();
                spelled.extend(word.bytes().map(bytes::to_char));
                &spelled
            } else {
                word
            };
            match vocab.find(word).filter(|_| self.pre.is_whole(word)) {
                Some(id) => append(vocab, word, id, ids),
                None => join(word, &mut merges).for_each(|piece| match vocab.find(piece) {
                    Some(id) => append(vocab, piece, id, ids),
                    None => spell(vocab, piece, ids),
                }),
            }
        }
    }
}

/// Appends a token of text. Control tokens are looked for beforehand; text never becomes one.
fn append(vocab: &Vocab, text: &str, id: u32, ids: &mut Vec<u32>) {
    let is_control = vocab.token_type(id).is_some_and(|kind| controls(text, kind));
    let characters = || -> Option<Vec<u32>> {
        text.chars().map(|c| vocab.find(c.encode_utf8(&mut [0; 4]))).collect()
    };
    match characters().filter(|_| is_control && text.chars().nth(1).is_some()) {
        Some(characters) => ids.extend(characters),
        None => ids.push(id),
    }
}

/// Appends what is no token, byte by byte. Bytes that the vocabulary lacks are left out.
fn spell(vocab: &Vocab, text: &str, ids: &mut Vec<u32>) {
    for byte in text.bytes() {
        let id = match vocab.spelling() {
            Spelling::Bpe if byte.is_ascii() => {
                vocab.find(char::from(byte).encode_utf8(&mut [0; 4]))
            }
            Spelling::Bpe => None,
            Spelling::Raw | Spelling::Spm | Spelling::WordPiece => vocab.find(&bytes::to_hex(byte)),
        };
        ids.extend(id);
    }
}

/// Ranks of merges, looked up by their text.
struct Merges<'a> {
    of: &'a Bpe,
    /// Room for the text that is looked up.
    entry: String,
}

impl Ranked for Merges<'_> {
    type Rank = Reverse<u32>;

    fn rank(&mut self, whole: &str, split: usize) -> Option<Self::Rank> {
        self.entry.clear();
        self.entry.push_str(&whole[..split]);
        self.entry.push(' ');
        self.entry.push_str(&whole[split..]);
        // Of two equal ones the first counts.
        let index = self.of.index.get_or_init(|| Index::new(&self.of.merges));
        index.find(&self.entry).map(Reverse)
    }
}

/// Checks that there are not too many merges, that each is a pair, and that they are of this
/// vocabulary. Single ones may be of tokens that it lacks: they never come up, or make what is
/// spelled byte by byte then, as in llama.cpp.
fn check(merges: &StringArray, vocab: &Vocab) -> Result<(), Error> {
    let (count, limit) = (merges.len(), MAX_MERGES);
    if count > limit {
        return Err(Error::Limit { what: "merges", count, limit });
    }
    let wrong = |index, text: &str| Err(Error::Merge { index, text: text.to_owned() });
    if let Some((index, entry)) = merges.iter().enumerate().find(|(_, it)| pair(it).is_none()) {
        return wrong(index, entry);
    }
    let known = |text: &str| vocab.find(text).is_some();
    let good = |entry: &str| {
        let (left, right) = pair(entry)?;
        Some(known(left) && known(right) && known(&format!("{left}{right}")))
    };
    match merges.get(0).filter(|_| !merges.iter().take(SAMPLE).any(|it| good(it) == Some(true))) {
        Some(first) => wrong(0, first),
        None => Ok(()),
    }
}

/// The two tokens of an entry, separated by a space; the first may itself begin with one.
fn pair(entry: &str) -> Option<(&str, &str)> {
    let first = entry.chars().next()?.len_utf8();
    let space = first + entry.as_bytes()[first..].iter().position(|byte| *byte == b' ')?;
    Some((&entry[..space], &entry[space + 1..])).filter(|(_, right)| !right.is_empty())
}

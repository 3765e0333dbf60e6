//! Byte-level BPE, as GPT-2 and Llama 3 use it.

use std::collections::{HashMap, HashSet};

use tokenizers::Model as _;
use tokenizers::models::bpe::{BPE, Vocab as Vocabulary};

use super::special::controls;
use super::vocab::Vocab;
use super::{Error, bytes, split::PreTokenizer};
use crate::gguf::{Metadata, StringArray};

const MAX_MERGES: usize = 1 << 22;

/// Byte-level BPE: words are spelled in GPT-2's characters, then merged by rank.
#[derive(Debug)]
pub(super) struct Bpe {
    pre: PreTokenizer,
    merger: BPE,
    /// The character of each byte, if the vocabulary has it.
    characters: Vec<Option<char>>,
    /// Control tokens that merges of text might end in, as text is spelled without merges.
    spelled: HashMap<u32, Vec<u32>>,
}

impl Bpe {
    pub(super) fn new(
        vocab: &Vocab,
        metadata: &Metadata,
        pre: PreTokenizer,
    ) -> Result<Self, Error> {
        let mut tokens = Vocabulary::new();
        for (id, text, _) in vocab.iter().filter(|(_, text, _)| !text.is_empty()) {
            if let Some(first) = tokens.insert(text.to_owned(), id) {
                return Err(Error::DuplicateToken { first, second: id, text: text.to_owned() });
            }
        }
        let known = |c: &char| tokens.contains_key(&*c.encode_utf8(&mut [0; 4]));
        let characters = (0..=255).map(bytes::to_char).map(|c| Some(c).filter(known)).collect();
        let spelled = spelled(vocab, &tokens);
        let key = "tokenizer.ggml.merges";
        let entries = metadata.strings(key)?.ok_or(Error::Missing { key })?;
        let merger = BPE::builder()
            .vocab_and_merges(tokens, merges(entries)?)
            .ignore_merges(pre.whole_words())
            .build()
            .map_err(|error| wrong_merge(vocab, entries, &error.to_string()))?;
        Ok(Self { pre, merger, characters, spelled })
    }

    /// Appends the ids of `text`.
    pub(super) fn encode(&self, text: &str, ids: &mut Vec<u32>) -> Result<(), Error> {
        let mut spelled = String::new();
        for word in self.pre.split(text) {
            for byte in word.bytes() {
                match self.characters[usize::from(byte)] {
                    Some(c) => spelled.push(c),
                    // What stands on either side of a byte without a token cannot merge.
                    None => self.merge(&mut spelled, ids)?,
                }
            }
            self.merge(&mut spelled, ids)?;
        }
        Ok(())
    }

    /// Appends the ids of `spelled` and empties it.
    fn merge(&self, spelled: &mut String, ids: &mut Vec<u32>) -> Result<(), Error> {
        let tokens = self.merger.tokenize(spelled);
        let tokens = tokens.map_err(|error| Error::Encode { reason: error.to_string() })?;
        for token in &tokens {
            match self.spelled.get(&token.id) {
                // Control tokens are looked for beforehand; text never becomes one.
                Some(spelled) => ids.extend(spelled),
                None => ids.push(token.id),
            }
        }
        spelled.clear();
        Ok(())
    }
}

/// Control tokens whose characters are all tokens, with those.
fn spelled(vocab: &Vocab, tokens: &Vocabulary) -> HashMap<u32, Vec<u32>> {
    let spell = |text: &str| -> Option<Vec<u32>> {
        text.chars().map(|c| tokens.get(&*c.encode_utf8(&mut [0; 4])).copied()).collect()
    };
    vocab
        .iter()
        .filter(|&(_, text, kind)| controls(text, kind) && text.chars().nth(1).is_some())
        .filter_map(|(id, text, _)| Some((id, spell(text)?)))
        .collect()
}

/// Pairs of tokens to merge, the first ones first.
fn merges(entries: &StringArray) -> Result<Vec<(String, String)>, Error> {
    let (count, limit) = (entries.len(), MAX_MERGES);
    if count > limit {
        return Err(Error::Limit { what: "merges", count, limit });
    }
    let mut seen = HashSet::with_capacity(count);
    let mut merges = Vec::with_capacity(count);
    for (index, entry) in entries.iter().enumerate() {
        let wrong = || Error::Merge { index, text: entry.to_owned() };
        let (left, right) = pair(entry).ok_or_else(wrong)?;
        // Of two equal ones the first counts.
        if seen.insert(entry) {
            merges.push((left.to_owned(), right.to_owned()));
        }
    }
    Ok(merges)
}

/// The two tokens of an entry, separated by a space; the first may itself begin with one.
fn pair(entry: &str) -> Option<(&str, &str)> {
    let first = entry.chars().next()?.len_utf8();
    let space = first + entry[first..].find(' ')?;
    Some((&entry[..space], &entry[space + 1..]))
}

/// The merge for which the library refused the vocabulary with `reason`, which names none.
fn wrong_merge(vocab: &Vocab, entries: &StringArray, reason: &str) -> Error {
    let tokens: HashSet<&str> = vocab.iter().map(|(_, text, _)| text).collect();
    let known = |text: &str| !text.is_empty() && tokens.contains(text);
    let good = |entry: &str| {
        pair(entry).is_some_and(|(left, right)| {
            known(left) && known(right) && known(&format!("{left}{right}"))
        })
    };
    match entries.iter().enumerate().find(|(_, entry)| !good(entry)) {
        Some((index, entry)) => Error::Merge { index, text: entry.to_owned() },
        None => Error::Build { reason: reason.to_owned() },
    }
}

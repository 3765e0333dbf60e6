use std::collections::HashSet;

use tokenizers::Model as _;
use tokenizers::models::bpe::{BPE, Vocab as Vocabulary};

use super::vocab::Vocab;
use super::{Error, bytes, split::PreTokenizer};
use crate::gguf::Metadata;

const MAX_MERGES: usize = 1 << 22;

/// Byte-level BPE: words are spelled in GPT-2's characters, then merged by rank.
#[derive(Debug)]
pub(super) struct Bpe {
    pre: PreTokenizer,
    merger: BPE,
    /// The character of each byte, if the vocabulary has it.
    characters: Vec<Option<char>>,
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
        let known = |text: &str| tokens.contains_key(text);
        let merges = merges(metadata, known)?;
        let characters = (0..=255)
            .map(bytes::to_char)
            .map(|c| Some(c).filter(|c| known(c.encode_utf8(&mut [0; 4]))))
            .collect();
        let merger = BPE::builder()
            .vocab_and_merges(tokens, merges)
            .ignore_merges(pre.whole_words())
            .build()
            .map_err(|error| Error::Build { reason: error.to_string() })?;
        Ok(Self { pre, merger, characters })
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
        ids.extend(tokens.iter().map(|token| token.id));
        spelled.clear();
        Ok(())
    }
}

/// Pairs of tokens to merge, the first ones first.
fn merges(
    metadata: &Metadata,
    known: impl Fn(&str) -> bool,
) -> Result<Vec<(String, String)>, Error> {
    let key = "tokenizer.ggml.merges";
    let entries = metadata.strings(key)?.ok_or(Error::Missing { key })?;
    if entries.len() > MAX_MERGES {
        return Err(Error::Limit { what: "merges", count: entries.len(), limit: MAX_MERGES });
    }
    let mut seen = HashSet::new();
    let mut merges = Vec::with_capacity(entries.len());
    for (index, entry) in entries.iter().enumerate() {
        let wrong = || Error::Merge { index, text: entry.to_owned() };
        // A token may itself begin with a space.
        let first = entry.chars().next().ok_or_else(wrong)?.len_utf8();
        let space = first + entry[first..].find(' ').ok_or_else(wrong)?;
        let (left, right) = (&entry[..space], &entry[space + 1..]);
        if !(known(left) && known(right) && known(&format!("{left}{right}"))) {
            return Err(wrong());
        }
        // Of two equal ones the first counts.
        if seen.insert((left, right)) {
            merges.push((left.to_owned(), right.to_owned()));
        }
    }
    Ok(merges)
}

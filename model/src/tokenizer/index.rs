//! Strings by their text: where in an array each is.

use std::hash::{BuildHasher, RandomState};

use foldhash::SharedSeed;
use foldhash::quality::SeedableRandomState;

use crate::gguf::StringArray;

/// Finds the place of a string in an array that it shares: no string is copied.
///
/// A table that is made once and never changed, as simple as that allows: opening a vocabulary is
/// mostly making one of these, and each string costs one access to memory that is not in order.
#[derive(Debug)]
pub(super) struct Index {
    texts: StringArray,
    /// By slot: one more than the place of the last string that has it, or 0.
    last: Vec<u32>,
    /// By place.
    entries: Vec<Entry>,
    /// Keyed at random: a file cannot choose texts that collide.
    hasher: SeedableRandomState,
}

/// What is known of a string.
#[derive(Debug)]
struct Entry {
    /// One more than the place of the string before it in the list of its slot, or 0.
    before: u32,
    /// The other half of its hash: texts are far away in memory, and most need not be compared.
    hash: u32,
}

impl Index {
    /// An index of all strings but empty ones. Of equal ones the first counts.
    pub(super) fn new(texts: &StringArray) -> Self {
        let seed = RandomState::new().hash_one(texts.len());
        Self::with(texts, SeedableRandomState::with_seed(seed, SharedSeed::global_random()))
    }

    fn with(texts: &StringArray, hasher: SeedableRandomState) -> Self {
        let slots = texts.len().next_power_of_two();
        let mut index = Self {
            texts: texts.clone(),
            last: vec![0; slots],
            entries: Vec::with_capacity(texts.len()),
            hasher,
        };
        for (at, text) in (1..).zip(texts.iter()) {
            let (slot, hash) = index.slot(text);
            let last = &mut index.last[slot];
            let before = if text.is_empty() { 0 } else { std::mem::replace(last, at) };
            index.entries.push(Entry { before, hash });
        }
        index
    }

    /// The place of a string, if it is there.
    pub(super) fn find(&self, text: &str) -> Option<u32> {
        let (slot, hash) = self.slot(text);
        self.first_equal(*self.last.get(slot)?, hash, text)
    }

    /// Two equal strings that are not empty, if there are such: the places of the first of them.
    pub(super) fn duplicate(&self) -> Option<(u32, u32)> {
        (0..).zip(&self.entries).find_map(|(at, entry)| {
            let first = self.first_equal(entry.before, entry.hash, self.text(at))?;
            Some((first, at))
        })
    }

    /// The place of the first string of a list that is equal to this one.
    fn first_equal(&self, last: u32, hash: u32, text: &str) -> Option<u32> {
        let (mut next, mut found) = (last, None);
        while let Some(at) = next.checked_sub(1) {
            let entry = self.entries.get(at as usize)?;
            if entry.hash == hash && self.text(at) == text {
                found = Some(at);
            }
            next = entry.before;
        }
        found
    }

    fn text(&self, at: u32) -> &str {
        self.texts.get(at as usize).unwrap_or_default()
    }

    /// Where the list of a string begins, and the half of its hash that does not say so.
    #[expect(clippy::cast_possible_truncation, reason = "halves are meant")]
    fn slot(&self, text: &str) -> (usize, u32) {
        let hash = self.hasher.hash_one(text);
        let (high, low) = ((hash >> 32) as u32, hash as u32);
        // The number of slots is a power of two, and no more than 2^23.
        (low as usize & self.last.len().wrapping_sub(1), high)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strings_are_found_and_equal_ones_noticed() {
        let index = |texts: &[&str]| Index::new(&texts.iter().collect());
        let some = index(&["a", "", "b", "ab", ""]);
        assert_eq!(
            ["a", "b", "ab", "", "c"].map(|it| some.find(it)),
            [Some(0), Some(2), Some(3), None, None]
        );
        assert_eq!(some.duplicate(), None);
        assert_eq!((index(&[]).find("a"), index(&[]).duplicate()), (None, None));
        let twice = index(&["x", "y", "z", "y", "x", "y"]);
        assert_eq!((twice.find("y"), twice.duplicate()), (Some(1), Some((1, 3))));
        let many: StringArray = (0..5000).map(|number| number.to_string()).collect();
        let index = Index::new(&many);
        assert!((0..5000).all(|number| index.find(&number.to_string()) == Some(number)));
        assert_eq!((index.find("5000"), index.duplicate()), (None, None));
    }
}

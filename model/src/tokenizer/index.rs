//! Strings by their text: where in an array each is.

use std::hash::{BuildHasher as _, RandomState};

use hashbrown::HashTable;

use crate::gguf::StringArray;

/// Finds the place of a string in an array that it shares: no string is copied, and opening a
/// vocabulary of 256 k tokens takes milliseconds.
#[derive(Debug)]
pub(super) struct Index {
    texts: StringArray,
    places: HashTable<u32>,
    /// Keyed at random: a file cannot choose texts that collide.
    hasher: RandomState,
}

impl Index {
    /// An index of all strings but empty ones. Of equal ones the first counts; the second is
    /// given to `twice`, as their places.
    pub(super) fn new<E>(
        texts: &StringArray,
        mut twice: impl FnMut(u32, u32) -> Result<(), E>,
    ) -> Result<Self, E> {
        let texts = texts.clone();
        let hasher = RandomState::new();
        let mut places = HashTable::with_capacity(texts.len());
        let text_at = |at: u32| texts.get(at as usize).unwrap_or_default();
        for (at, text) in (0..).zip(texts.iter()).filter(|(_, text)| !text.is_empty()) {
            let entry = places.entry(
                hasher.hash_one(text),
                |other| text_at(*other) == text,
                |other| hasher.hash_one(text_at(*other)),
            );
            match entry {
                hashbrown::hash_table::Entry::Occupied(first) => twice(*first.get(), at)?,
                hashbrown::hash_table::Entry::Vacant(free) => {
                    free.insert(at);
                }
            }
        }
        Ok(Self { texts, places, hasher })
    }

    /// The place of a string, if it is there.
    pub(super) fn find(&self, text: &str) -> Option<u32> {
        let hash = self.hasher.hash_one(text);
        let is_it = |at: &u32| self.texts.get(*at as usize) == Some(text);
        self.places.find(hash, is_it).copied()
    }
}

//! Strings by their text: where in an array each is.

use std::hash::{BuildHasher, RandomState};

use crate::gguf::StringArray;

/// Finds the place of a string in an array that it shares: no string is copied.
///
/// A table that is made once and never changed, as simple as that allows: opening a vocabulary is
/// mostly making two of these, and each string costs one access to memory that is not in order.
#[derive(Debug)]
pub(super) struct Index {
    texts: StringArray,
    /// By hash: one more than the place of the last string that has it, or 0.
    last: Vec<u32>,
    /// By place: the same for the string before it in the list of its hash.
    before: Vec<u32>,
    /// Keyed at random: a file cannot choose texts that collide.
    hasher: RandomState,
}

impl Index {
    /// An index of all strings but empty ones. Of equal ones the first counts.
    pub(super) fn new(texts: &StringArray) -> Self {
        Self::with(texts, RandomState::new())
    }

    fn with(texts: &StringArray, hasher: RandomState) -> Self {
        let slots = texts.len().next_power_of_two();
        let mut index =
            Self { texts: texts.clone(), last: vec![0; slots], before: Vec::new(), hasher };
        index.before.reserve_exact(texts.len());
        for (at, text) in (1..).zip(texts.iter()) {
            let slot = index.slot(text);
            let last = &mut index.last[slot];
            let before = if text.is_empty() { 0 } else { std::mem::replace(last, at) };
            index.before.push(before);
        }
        index
    }

    /// The place of a string, if it is there.
    pub(super) fn find(&self, text: &str) -> Option<u32> {
        let slot = self.slot(text);
        self.list(*self.last.get(slot)?).filter(|at| self.text(*at) == text).last()
    }

    /// Two equal strings that are not empty, if there are such: the places of the first of them.
    pub(super) fn duplicate(&self) -> Option<(u32, u32)> {
        let equal = |at: u32| {
            let before = self.list(*self.before.get(at as usize)?);
            before.filter(|other| self.text(*other) == self.text(at)).last()
        };
        (0..).zip(&self.before).find_map(|(at, before)| match before {
            0 => None,
            _ => Some((equal(at)?, at)),
        })
    }

    /// The places of a list, from the last on.
    fn list(&self, last: u32) -> impl Iterator<Item = u32> {
        let before = |at: &u32| self.before.get(*at as usize).and_then(|it| it.checked_sub(1));
        std::iter::successors(last.checked_sub(1), before)
    }

    fn text(&self, at: u32) -> &str {
        self.texts.get(at as usize).unwrap_or_default()
    }

    fn slot(&self, text: &str) -> usize {
        // The number of slots is a power of two.
        let hash = self.hasher.hash_one(text) & (self.last.len() as u64).wrapping_sub(1);
        usize::try_from(hash).unwrap_or(0)
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

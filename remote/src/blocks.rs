//! Blocks in memory: the last that were used, and those that are on their way.

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;

/// The last blocks that were used.
#[derive(Debug)]
pub(crate) struct Blocks {
    /// The oldest first.
    here: VecDeque<(u64, Arc<[u8]>)>,
    most: usize,
    /// Those that a thread asks the server for.
    coming: BTreeSet<u64>,
}

impl Blocks {
    pub(crate) const fn new(most: usize) -> Self {
        Self { here: VecDeque::new(), most, coming: BTreeSet::new() }
    }

    pub(crate) fn get(&mut self, number: u64) -> Option<Arc<[u8]>> {
        let at = self.here.iter().position(|(other, _)| *other == number)?;
        let block = self.here.remove(at)?;
        let bytes = block.1.clone();
        self.here.push_back(block);
        Some(bytes)
    }

    /// Whether the caller is to fetch the block: it is neither here nor does another thread fetch it.
    pub(crate) fn begin(&mut self, number: u64) -> bool {
        self.here.iter().all(|(other, _)| *other != number) && self.coming.insert(number)
    }

    /// Ends what began: with a block, or in vain.
    pub(crate) fn end(&mut self, number: u64, block: Option<Arc<[u8]>>) {
        self.coming.remove(&number);
        if let Some(block) = block {
            self.here.push_back((number, block));
            while self.here.len() > self.most {
                self.here.pop_front();
            }
        }
    }
}

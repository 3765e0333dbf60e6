//! The keys and values of all blocks, each in place.

use core::ops::Range;

use polychord_abi::transformer::{CacheRows, status};

use crate::attention::Cache;
use crate::cache::KvBuffer;
use crate::model::{BlockShape, Shape};
use crate::{Status, alloc};

/// Keys and values of each block, and how many positions of them are filled.
pub(crate) struct Caches(&'static mut [(Cache, usize)]);

impl Caches {
    /// Room for a context in each block, at an address that the host has set aside, or anywhere.
    pub(crate) fn new(
        shape: &Shape,
        blocks: usize,
        mut address: Option<u64>,
    ) -> Result<Self, Status> {
        let len = alloc::len(shape.buffers.cache)?;
        let mut numbers = || match &mut address {
            Some(address) => KvBuffer::take(shape.cache_type, len, address),
            None => KvBuffer::new(shape.cache_type, len),
        };
        let cache = || Some((Cache { keys: numbers()?, values: numbers()? }, 0));
        alloc::filled(blocks, cache).map(Self).ok_or(status::OUT_OF_MEMORY)
    }

    /// How many positions of a block are filled.
    pub(crate) fn filled(&self, block: usize) -> usize {
        self.0[block].1
    }

    /// Lets each block have no more positions than that.
    pub(crate) fn truncate(&mut self, position: usize) -> Result<(), Status> {
        for (_, filled) in &mut *self.0 {
            *filled = position.min(*filled);
        }
        Ok(())
    }

    /// Lets each block have that many positions, which the host has filled.
    pub(crate) fn resume(&mut self, position: usize) -> Result<(), Status> {
        for (_, filled) in &mut *self.0 {
            *filled = position;
        }
        Ok(())
    }

    /// Where the keys (`index` even) or the values of a block are.
    pub(crate) fn rows(
        &self,
        shape: &Shape,
        block: &BlockShape,
        index: usize,
    ) -> Result<CacheRows, Status> {
        let (Cache { keys, values }, _) = &self.0[index / 2];
        let numbers = if index.is_multiple_of(2) { keys } else { values };
        shape.cache_rows(block, index, numbers.address())
    }

    /// Lets `fill` put keys and values at `positions` of a block, those before being there.
    pub(crate) fn extend(
        &mut self,
        block: usize,
        _shape: &BlockShape,
        positions: Range<usize>,
        fill: impl FnOnce(&mut Cache) -> Result<(), Status>,
    ) -> Result<(), Status> {
        let (cache, filled) = &mut self.0[block];
        // Until the block is done, later positions of its cache are not to be relied on.
        *filled = positions.start;
        fill(cache)?;
        *filled = positions.end;
        Ok(())
    }
}

//! The keys and values of all blocks, each in place.

use core::ops::Range;

use polychord_abi::transformer::{CacheRows, cache_part, status};

use crate::attention::Cache;
use crate::cache::KvBuffer;
use crate::kept::{Memory, Progress, State};
use crate::model::{Block, Shape};
use crate::{Status, alloc};

/// What each block keeps, and how far it is.
pub(crate) struct Caches(&'static mut [Kept]);

struct Kept {
    cache: Cache,
    state: State,
    progress: Progress,
}

impl Caches {
    /// Room for each block, at an address that the host has set aside, or anywhere.
    pub(crate) fn new(
        shape: &Shape,
        blocks: &[Block],
        mut address: Option<u64>,
    ) -> Result<Self, Status> {
        let mut numbers = |len: u64| {
            let len = alloc::len(len)?;
            let numbers = match &mut address {
                Some(address) => KvBuffer::take(shape.cache_type, len, address),
                None => KvBuffer::new(shape.cache_type, len),
            };
            numbers.ok_or(status::OUT_OF_MEMORY)
        };
        let mut kept = |block: &Block| {
            let its = block.shape.kept;
            let keys = numbers(if its.parts > 0 { its.part } else { 0 })?;
            let values = numbers(if its.parts > 1 { its.part } else { 0 })?;
            let cache = Cache { keys, values };
            Ok(Kept { cache, state: State::new(&block.shape)?, progress: Progress::default() })
        };
        let (mut next, mut refused) = (blocks.iter(), status::OUT_OF_MEMORY);
        let all = alloc::filled(blocks.len(), || {
            kept(next.next()?).map_err(|status| refused = status).ok()
        });
        all.map(Self).ok_or(refused)
    }

    /// How far a block is.
    pub(crate) fn progress(&self, block: usize) -> &Progress {
        &self.0[block].progress
    }

    /// Lets each block have no more positions than that.
    pub(crate) fn truncate(&mut self, position: usize) {
        self.0.iter_mut().for_each(|kept| kept.progress.truncate(position));
    }

    /// Lets each block have that many positions, which the host has filled.
    pub(crate) fn resume(&mut self, position: usize) {
        self.0.iter_mut().for_each(|kept| kept.progress.resume(position));
    }

    /// Where one part of what a block keeps is.
    pub(crate) fn rows(
        &self,
        shape: &Shape,
        blocks: &[Block],
        block: usize,
        part: u32,
    ) -> Result<CacheRows, Status> {
        let Kept { cache, state, .. } = &self.0[block];
        let address = match part {
            cache_part::KEYS => cache.keys.address(),
            cache_part::VALUES => cache.values.address(),
            _ => return shape.state_rows(&blocks[block].shape, block, part, state),
        };
        shape.cache_rows(&blocks[block].shape, block, part, address)
    }

    /// Lets `fill` bring a block from the beginning of `positions` to their end; the block's rows may
    /// be those of another one, which it then only reads.
    pub(crate) fn extend(
        &mut self,
        block: usize,
        blocks: &[Block],
        positions: Range<usize>,
        fill: impl FnOnce(Memory<'_>) -> Result<(), Status>,
    ) -> Result<(), Status> {
        let shape = &blocks[block].shape;
        self.0[block].progress.begin(positions.start, positions.end);
        let Kept { cache, state, .. } = &mut self.0[shape.source.unwrap_or(block)];
        fill(if shape.is_recurrent() {
            Memory::State(state.at(positions.start))
        } else {
            Memory::Rows(cache)
        })?;
        self.0[block].progress.complete(positions.end);
        Ok(())
    }
}

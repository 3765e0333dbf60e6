//! The keys and values of all blocks in a memory of their own, and a window with those of the
//! block that is computed. States are in the guest's own memory: they are small, and each call
//! needs all of one.

use core::ops::Range;

use polychord_abi::transformer::{CacheRows, cache_part, status};

use crate::attention::Cache;
use crate::cache::KvBuffer;
use crate::kept::{Memory, Progress, State};
use crate::model::{Block, BlockShape, CacheType, Shape};
use crate::{Status, alloc, memories};

/// What each block keeps, and how far it is.
pub(crate) struct Caches {
    window: Cache,
    kept: &'static mut [Kept],
    kind: CacheType,
}

struct Kept {
    /// Address of the block's keys.
    address: u64,
    state: State,
    progress: Progress,
}

impl Caches {
    /// Room for each block, at an address that the host has set aside.
    pub(crate) fn new(
        shape: &Shape,
        blocks: &[Block],
        address: Option<u64>,
    ) -> Result<Self, Status> {
        let len = alloc::len(shape.buffers.cache)?;
        let has_cache = blocks.iter().any(|block| block.shape.kept.parts > 0);
        let mut address = match address {
            None if has_cache => return Err(status::BAD_DESCRIPTOR),
            address => address.unwrap_or(0),
        };
        let mut kept = |block: &Block| {
            let its = block.shape.kept;
            let (state, progress) = (State::new(&block.shape)?, Progress::default());
            let kept = Kept { address, state, progress };
            let bytes = its.cache_bytes(shape.cache_type.number()).ok_or(status::BAD_SHAPE)?;
            address = address.checked_add(bytes).ok_or(status::BAD_SHAPE)?;
            Ok(kept)
        };
        let (mut next, mut refused) = (blocks.iter(), status::OUT_OF_MEMORY);
        let all = alloc::filled(blocks.len(), || {
            kept(next.next()?).map_err(|status| refused = status).ok()
        });
        let numbers = || KvBuffer::new(shape.cache_type, len).ok_or(status::OUT_OF_MEMORY);
        let window = Cache { keys: numbers()?, values: numbers()? };
        Ok(Self { window, kept: all.ok_or(refused)?, kind: shape.cache_type })
    }

    /// How far a block is.
    pub(crate) fn progress(&self, block: usize) -> &Progress {
        &self.kept[block].progress
    }

    /// Lets each block have no more positions than that.
    pub(crate) fn truncate(&mut self, position: usize) {
        self.kept.iter_mut().for_each(|kept| kept.progress.truncate(position));
    }

    /// Lets each block have that many positions, which the host has filled.
    pub(crate) fn resume(&mut self, position: usize) {
        self.kept.iter_mut().for_each(|kept| kept.progress.resume(position));
    }

    /// Where one part of what a block keeps is.
    pub(crate) fn rows(
        &self,
        shape: &Shape,
        blocks: &[Block],
        block: usize,
        part: u32,
    ) -> Result<CacheRows, Status> {
        let its = &blocks[block].shape;
        let Kept { address, state, .. } = &self.kept[block];
        let before = match part {
            cache_part::KEYS => 0,
            cache_part::VALUES => bytes(self.kind, alloc::len(its.kept.part)?)?,
            _ => return shape.state_rows(its, block, part, state),
        };
        let address = address.checked_add(before).ok_or(status::BAD_SHAPE)?;
        shape.cache_rows(its, block, part, address)
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
        let Kept { progress, state, .. } = &mut self.kept[block];
        progress.begin(positions.start, positions.end);
        if shape.is_recurrent() {
            fill(Memory::State(state.at(positions.start)))?;
        } else if let Some(source) = shape.source {
            let seen = shape.first_seen(positions.start)..positions.end;
            self.each_head(source, &blocks[source].shape, seen, memories::read)?;
            fill(Memory::Rows(&mut self.window))?;
        } else {
            let seen = shape.first_seen(positions.start)..positions.start;
            self.each_head(block, shape, seen, memories::read)?;
            fill(Memory::Rows(&mut self.window))?;
            // Of more positions than there is room for, the last ones are there.
            let first = positions.start.max(positions.end.saturating_sub(shape.positions));
            self.each_head(block, shape, first..positions.end, |far, near| {
                memories::write(far, near)
            })?;
        }
        self.kept[block].progress.complete(positions.end);
        Ok(())
    }

    /// Calls `copy` with some positions of each head in the window, and their address in the
    /// cache of a block.
    fn each_head(
        &mut self,
        block: usize,
        shape: &BlockShape,
        positions: Range<usize>,
        copy: impl Fn(u64, &mut [u8]) -> Option<()>,
    ) -> Result<(), Status> {
        let kind = self.kind;
        let Cache { keys, values } = &mut self.window;
        let dim = shape.head_dim;
        let parts = (0..shape.kept.parts).zip([keys, values]);
        for (part, numbers) in parts {
            for head in 0..shape.own_kv_heads().len() {
                for rows in shape.places(positions.clone()) {
                    let near = (head * shape.positions + rows.start) * dim;
                    let far = alloc::len(part * shape.kept.part)? + near;
                    let far = self.kept[block].address.checked_add(bytes(kind, far)?);
                    let far = far.ok_or(status::BAD_SHAPE)?;
                    let near = numbers.bytes_mut(near..near + rows.len() * dim);
                    copy(far, near).ok_or(status::LAYER_REFUSED)?;
                }
            }
        }
        Ok(())
    }
}

/// Bytes that this many numbers of the cache take.
fn bytes(kind: CacheType, numbers: usize) -> Result<u64, Status> {
    kind.size_of(numbers).ok_or(status::BAD_SHAPE)
}

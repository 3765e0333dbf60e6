//! The keys and values of all blocks in a memory of their own, and a window with those of the
//! block that is computed.

use core::ops::Range;

use polychord_abi::transformer::{CacheRows, status};

use crate::attention::Cache;
use crate::cache::KvBuffer;
use crate::model::{BlockShape, Shape};
use crate::{Status, alloc, memories};

/// Keys and values of each block, and how many positions of them are filled.
pub(crate) struct Caches {
    window: Cache,
    /// Address of the first block's keys.
    address: u64,
    filled: &'static mut [u32],
    /// Numbers that a block has room for: of keys, and of values.
    len: usize,
    /// Bytes of one number.
    width: usize,
}

impl Caches {
    /// Room for a context in each block, at an address that the host has set aside.
    pub(crate) fn new(shape: &Shape, blocks: usize, address: Option<u64>) -> Result<Self, Status> {
        let address = address.ok_or(status::BAD_DESCRIPTOR)?;
        let len = alloc::len(shape.buffers.cache)?;
        let numbers = || KvBuffer::new(shape.cache_type, len).ok_or(status::OUT_OF_MEMORY);
        Ok(Self {
            window: Cache { keys: numbers()?, values: numbers()? },
            address,
            filled: alloc::words(blocks).ok_or(status::OUT_OF_MEMORY)?,
            len,
            width: shape.cache_type.bytes(),
        })
    }

    /// How many positions of a block are filled.
    pub(crate) fn filled(&self, block: usize) -> usize {
        self.filled[block] as usize
    }

    /// Lets each block have no more positions than that.
    pub(crate) fn truncate(&mut self, position: usize) -> Result<(), Status> {
        let position = u32::try_from(position).map_err(|_| status::CONTEXT_FULL)?;
        for filled in &mut *self.filled {
            *filled = position.min(*filled);
        }
        Ok(())
    }

    /// Lets each block have that many positions, which the host has filled.
    pub(crate) fn resume(&mut self, position: usize) -> Result<(), Status> {
        let position = u32::try_from(position).map_err(|_| status::CONTEXT_FULL)?;
        self.filled.fill(position);
        Ok(())
    }

    /// Where the keys (`index` even) or the values of a block are.
    pub(crate) fn rows(
        &self,
        shape: &Shape,
        block: &BlockShape,
        index: usize,
    ) -> Result<CacheRows, Status> {
        let before = index as u64 * self.len as u64 * self.width as u64;
        let address = self.address.checked_add(before).ok_or(status::BAD_SHAPE)?;
        shape.cache_rows(block, index, address)
    }

    /// Lets `fill` put keys and values at `positions` of a block, those before being there.
    pub(crate) fn extend(
        &mut self,
        block: usize,
        shape: &BlockShape,
        positions: Range<usize>,
        fill: impl FnOnce(&mut Cache) -> Result<(), Status>,
    ) -> Result<(), Status> {
        let filled = |position: usize| u32::try_from(position).map_err(|_| status::CONTEXT_FULL);
        // Until the block is done, later positions of its cache are not to be relied on.
        self.filled[block] = filled(positions.start)?;
        let first = shape.seen(positions.start, positions.start).start;
        let seen = first..positions.start;
        self.each_head(block, shape, seen, memories::read)?;
        fill(&mut self.window)?;
        self.each_head(block, shape, positions.clone(), |far, near| memories::write(far, near))?;
        self.filled[block] = filled(positions.end)?;
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
        let Cache { keys, values } = &mut self.window;
        let dim = shape.head_dim;
        for (kind, numbers) in [keys, values].into_iter().enumerate() {
            for head in 0..shape.own_kv_heads().len() {
                let near = (head * shape.context + positions.start) * dim;
                let part = near..near + positions.len() * dim;
                let far = (2 * block + kind) as u64 * self.len as u64 + near as u64;
                let far = self.address.checked_add(far * self.width as u64);
                let far = far.ok_or(status::BAD_SHAPE)?;
                copy(far, numbers.bytes_mut(part)).ok_or(status::LAYER_REFUSED)?;
            }
        }
        Ok(())
    }
}

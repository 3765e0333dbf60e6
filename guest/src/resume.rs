//! The exports by which a host copies the sequence of one guest into another: where the rows of each
//! cache are, and how many of them there are now.
#![allow(unsafe_code)]

use core::cell::Cell;
use core::ops::Range;

use polychord_abi::transformer::{CacheRows, cache_part, feature, status};

use crate::kept::State;
use crate::model::{BlockShape, Shape};
use crate::{Status, alloc, exports};

/// What the last call of `CACHE` has described.
struct Described(Cell<CacheRows>);

// SAFETY: the module has no threads: its memory is not shared.
unsafe impl Sync for Described {}

static DESCRIBED: Described = Described(Cell::new(CacheRows {
    address: 0,
    stride: 0,
    row_bytes: 0,
    block: 0,
    part: 0,
    first_head: 0,
    heads: 0,
    positions: 0,
}));

/// A description of a cache, or null behind the last one and before `INIT`.
#[unsafe(no_mangle)]
pub extern "C" fn transformer_cache(index: i32) -> *const CacheRows {
    match exports::with(|network| network.cache_rows(index)) {
        Ok(rows) => {
            DESCRIBED.0.set(rows);
            DESCRIBED.0.as_ptr()
        }
        Err(_) => core::ptr::null(),
    }
}

/// Takes the rows that the host has put into the caches.
#[unsafe(no_mangle)]
pub extern "C" fn transformer_resume(position: i32) -> Status {
    exports::code(exports::with(|network| network.resume(position)))
}

impl BlockShape {
    /// The parts of what it keeps, in the order in which they are described.
    pub(crate) const fn parts(&self) -> &'static [u32] {
        if self.has(feature::DELTA_NET) {
            &[cache_part::MATRICES, cache_part::TAPS]
        } else if self.has(feature::SHORT_CONV) {
            &[cache_part::TAPS]
        } else {
            match self.kept.parts {
                0 => &[],
                1 => &[cache_part::KEYS],
                _ => &[cache_part::KEYS, cache_part::VALUES],
            }
        }
    }
}

impl Shape {
    /// The keys or the values of a block, whose first row is at `address`.
    pub(crate) fn cache_rows(
        &self,
        shape: &BlockShape,
        block: usize,
        part: u32,
        address: u64,
    ) -> Result<CacheRows, Status> {
        let row_bytes = self.cache_type.size_of(shape.head_dim).ok_or(status::BAD_SHAPE)?;
        let row_bytes = alloc::len(row_bytes)?;
        self.rows(block, part, address, [row_bytes, shape.positions], shape.own_kv_heads())
    }

    /// A part of a block's state.
    pub(crate) fn state_rows(
        &self,
        shape: &BlockShape,
        block: usize,
        part: u32,
        state: &State,
    ) -> Result<CacheRows, Status> {
        let is_matrix = part == cache_part::MATRICES;
        let (numbers, heads, row) = match is_matrix {
            true => (&state.matrices, shape.own_heads(), shape.head_dim * shape.head_dim),
            false => (&state.taps, shape.own_channels(), shape.taps - 1),
        };
        let address = numbers.as_ptr().expose_provenance() as u64;
        self.rows(block, part, address, [row * size_of::<f32>(), 1], heads)
    }

    fn rows(
        &self,
        block: usize,
        part: u32,
        address: u64,
        [row_bytes, positions]: [usize; 2],
        heads: Range<usize>,
    ) -> Result<CacheRows, Status> {
        let number = |number: usize| u32::try_from(number).map_err(|_| status::BAD_SHAPE);
        Ok(CacheRows {
            address,
            stride: row_bytes as u64 * positions as u64,
            row_bytes: number(row_bytes)?,
            block: number(self.first_block + block)?,
            part,
            first_head: number(heads.start)?,
            heads: number(heads.len())?,
            positions: number(positions)?,
        })
    }
}

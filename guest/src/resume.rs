//! The exports by which a host copies the sequence of one guest into another: where the rows of each
//! cache are, and how many of them there are now.
#![allow(unsafe_code)]

use core::cell::Cell;

use polychord_abi::transformer::{CacheRows, cache_part, status};

use crate::model::{BlockShape, Shape};
use crate::{Status, exports};

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

impl Shape {
    /// The keys (`index` even) or the values of a block, whose first row is at `address`.
    pub(crate) fn cache_rows(
        &self,
        block: &BlockShape,
        index: usize,
        address: u64,
    ) -> Result<CacheRows, Status> {
        let number = |number: usize| u32::try_from(number).map_err(|_| status::BAD_SHAPE);
        let row_bytes = block.head_dim.checked_mul(self.cache_type.bytes());
        let row_bytes = number(row_bytes.ok_or(status::BAD_SHAPE)?)?;
        let heads = block.own_kv_heads();
        Ok(CacheRows {
            address,
            stride: u64::from(row_bytes) * self.context as u64,
            row_bytes,
            block: number(self.first_block + index / 2)?,
            part: if index.is_multiple_of(2) { cache_part::KEYS } else { cache_part::VALUES },
            first_head: number(heads.start)?,
            heads: number(heads.len())?,
            positions: number(self.context)?,
        })
    }
}

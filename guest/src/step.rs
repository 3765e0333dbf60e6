//! The exports by which a host computes a token of each of several sequences with one pass over the
//! weights: one instance computes what needs each row alone, for all of them, and each instance that has a
//! sequence the part where its positions meet.
#![allow(unsafe_code)]

use core::cell::Cell;

use polychord_abi::transformer::{MixedRows, feature};

use crate::buffers::Buffers;
use crate::model::BlockShape;
use crate::stage::Stage;
use crate::{Status, exports};

/// What the last call of `MIXED_ROWS` has described.
struct Described(Cell<MixedRows>);

// SAFETY: the module has no threads: its memory is not shared.
unsafe impl Sync for Described {}

static DESCRIBED: Described =
    Described(Cell::new(MixedRows { address: 0, row_bytes: 0, is_result: 0 }));

/// Runs a block up to where positions meet.
#[unsafe(no_mangle)]
pub extern "C" fn transformer_enter_attention(block: i32, n: i32) -> Status {
    exports::code(exports::with(|network| network.enter_attention(block, n)))
}

/// Lets the first row meet the positions before it.
#[unsafe(no_mangle)]
pub extern "C" fn transformer_mix(block: i32, position: i32) -> Status {
    exports::code(exports::with(|network| network.mix(block, position)))
}

/// Runs a block from there to its feed-forward part.
#[unsafe(no_mangle)]
pub extern "C" fn transformer_leave_attention(block: i32, n: i32) -> Status {
    exports::code(exports::with(|network| network.leave_attention(block, n)))
}

/// A description of rows, or null behind the last one and before `INIT`.
#[unsafe(no_mangle)]
pub extern "C" fn transformer_mixed_rows(block: i32, n: i32, index: i32) -> *const MixedRows {
    match exports::with(|network| network.mixed_rows(block, n, index)) {
        Ok(rows) => {
            DESCRIBED.0.set(rows);
            DESCRIBED.0.as_ptr()
        }
        Err(_) => core::ptr::null(),
    }
}

/// Some of the logits of several rows.
#[unsafe(no_mangle)]
pub extern "C" fn transformer_heads(n: i32, first: i32, count: i32) -> Status {
    exports::code(exports::with(|network| network.heads(n, first, count)))
}

/// Where these are, or null before `INIT`.
#[unsafe(no_mangle)]
pub extern "C" fn transformer_head_rows() -> *const f32 {
    exports::with(|network| Ok(network.head_rows())).unwrap_or(core::ptr::null())
}

impl Stage<'_> {
    /// What `mix` gets and gives, row by row, in the places that they have for as many rows.
    pub(crate) fn mixed_rows(&self, its: &BlockShape, buffers: &Buffers) -> [Option<MixedRows>; 5] {
        let share = self.shape.share;
        let (heads, kv_heads) = (its.own_heads(), its.own_kv_heads().len());
        let rows = |buffer: &[f32], width: usize| Some(described(buffer, 0, width, false));
        // Results of ranks are stacked.
        let before = |units: usize, unit: usize| share.own(units).start * unit * self.n;
        let dim = its.head_dim;
        let (width, kv_width) = (heads.len() * dim, kv_heads * dim);
        if its.has(feature::SHORT_CONV) {
            let width = share.own(self.shape.dim).len();
            let result = described(buffers.mixed, 0, width, true);
            return [rows(buffers.values, width), Some(result), None, None, None];
        }
        if its.has(feature::DELTA_NET) {
            let result = described(buffers.attended, before(its.heads, dim), width, true);
            let channels = rows(buffers.queries, its.channels());
            return [channels, rows(buffers.values, 2 * heads.len()), Some(result), None, None];
        }
        let queries = rows(buffers.queries, width);
        if its.has(feature::LATENT) {
            let result = described(buffers.attended, 0, width, true);
            return [queries, rows(buffers.keys, dim), Some(result), None, None];
        }
        let result = described(buffers.attended, before(its.heads, dim), width, true);
        let keys = rows(buffers.keys, kv_width);
        let values = rows(buffers.values, kv_width);
        let gated = if its.has(feature::OUTPUT_GATE) { 2 * width } else { 0 };
        [queries, keys, values, rows(buffers.mixed, gated), Some(result)]
    }
}

/// Rows of a buffer from an element on, each of `width` floats.
fn described(buffer: &[f32], first: usize, width: usize, is_result: bool) -> MixedRows {
    let address = buffer.as_ptr().expose_provenance() + first * size_of::<f32>();
    MixedRows {
        address: address as u64,
        // More does not fit into a buffer, whose sizes were checked.
        row_bytes: u32::try_from(width * size_of::<f32>()).unwrap_or(0),
        is_result: is_result.into(),
    }
}

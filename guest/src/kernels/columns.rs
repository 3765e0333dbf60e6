//! Integer products with many columns: four of them in the lanes of a vector, twice.

use super::activations::{COLUMNS, HEIGHT};
use super::rows::{Output, Rows};
use crate::simd::*;

/// How rows of a type are multiplied with many columns.
pub(super) trait Tiles {
    /// A block of weights, unpacked.
    type Block;
    /// A block of each of four columns.
    type Columns;

    /// The products of an unpacked row with four columns each, which are the lanes of the result.
    fn tile<const C: usize>(w: &[Self::Block], x: [&[Self::Columns]; C]) -> [v128; C];
}

/// Unpacks some rows of `len` blocks once, each by `unpack`, then multiplies them with every
/// column. One code for all types that differ in no more than how they are unpacked.
#[inline(never)]
pub(super) fn multiply<T: Tiles>(
    w: &Rows<'_>,
    len: usize,
    x: &[T::Columns],
    mut y: Output<'_>,
    unpacked: &mut [T::Block],
    unpack: fn(&[u8], &mut [T::Block]),
) {
    let stored = w.bytes.chunks(HEIGHT * w.row_bytes);
    for (stored, first) in stored.zip((0..w.count()).step_by(HEIGHT)) {
        let stored = stored.chunks_exact(w.row_bytes);
        let rows = first..first + stored.len();
        for (row, out) in stored.zip(unpacked.chunks_exact_mut(len)) {
            unpack(row, out);
        }
        for (x, columns) in x.chunks(2 * len).zip((0..).step_by(2 * COLUMNS)) {
            for (w, row) in unpacked.chunks_exact(len).zip(rows.clone()) {
                let (a, b) = x.split_at(len);
                if b.is_empty() {
                    let [a] = T::tile(w, [a]);
                    y.put(row, columns, a);
                } else {
                    let [a, b] = T::tile(w, [a, b]);
                    y.put(row, columns, a);
                    y.put(row, columns + COLUMNS, b);
                }
            }
        }
    }
}

//! Integer products with many columns: tiles of four rows and eight columns.

use super::activations::{COLUMNS, HEIGHT};
use super::rows::{Output, Rows};
use crate::simd::*;

/// How rows of a type are multiplied with many columns.
pub(super) trait Tiles {
    /// A block of weights, unpacked.
    type Block;
    /// A block of each of four columns.
    type Columns;

    /// The products of unpacked rows with `C` times four columns, which are the lanes of the results.
    fn tile<const C: usize>(
        w: &[[Self::Block; HEIGHT]],
        x: [&[Self::Columns]; C],
    ) -> [[v128; C]; HEIGHT];
}

/// Unpacks some rows of `len` blocks once, each by `unpack`, then multiplies them with every
/// column. One code for all types that differ in no more than how they are unpacked.
///
/// Where there are fewer rows than a tile has, it also computes what earlier ones have left there.
#[inline(never)]
pub(super) fn multiply<T: Tiles>(
    w: &Rows<'_>,
    len: usize,
    x: &[T::Columns],
    mut y: Output<'_>,
    unpacked: &mut [T::Block],
    unpack: fn(&[u8], usize, &mut [[T::Block; HEIGHT]]),
) {
    let unpacked = &mut unpacked.as_chunks_mut().0[..len];
    let stored = w.bytes.chunks(HEIGHT * w.row_bytes);
    for (stored, first) in stored.zip((0..w.count()).step_by(HEIGHT)) {
        let stored = stored.chunks_exact(w.row_bytes);
        let rows = stored.len();
        stored.enumerate().for_each(|(row, stored)| unpack(stored, row, unpacked));
        for (x, columns) in x.chunks(2 * len).zip((0..).step_by(2 * COLUMNS)) {
            let (a, b) = x.split_at(len);
            if b.is_empty() {
                put(&mut y, [first, rows], columns, T::tile(unpacked, [a]));
            } else {
                put(&mut y, [first, rows], columns, T::tile(unpacked, [a, b]));
            }
        }
    }
}

fn put<const C: usize>(
    y: &mut Output<'_>,
    [first, rows]: [usize; 2],
    columns: usize,
    results: [[v128; C]; HEIGHT],
) {
    for (row, results) in (first..first + rows).zip(results) {
        for (results, columns) in results.into_iter().zip((columns..).step_by(COLUMNS)) {
            y.put(row, columns, results);
        }
    }
}

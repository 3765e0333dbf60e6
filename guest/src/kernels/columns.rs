//! Integer products with many columns: tiles of four rows and eight columns.

use super::activations::{COLUMNS, HEIGHT};
use super::rows::{Output, Rows};
use crate::simd::*;

/// How rows of a type are multiplied with many columns.
pub(super) trait Tiles {
    /// A block of each of four rows of weights, unpacked.
    type Blocks;
    /// A block of each of four columns.
    type Columns;

    /// The products of unpacked rows with `C` times four columns, which are the lanes of the results.
    /// `next` are stored rows that are unpacked next: it may touch them meanwhile.
    fn tile<const C: usize>(
        w: &[Self::Blocks],
        x: [&[Self::Columns]; C],
        next: &[u8],
    ) -> [[v128; C]; HEIGHT];
}

/// Unpacks four rows of `len` blocks once, by `unpack`, then multiplies them with every column. One
/// code for all types that differ in no more than how they are unpacked.
///
/// Where fewer rows are left than four, the first of them stands for others.
#[inline(never)]
pub(super) fn multiply<T: Tiles>(
    w: &Rows<'_>,
    len: usize,
    x: &[T::Columns],
    mut y: Output<'_>,
    unpacked: &mut [T::Blocks],
    unpack: fn([&[u8]; HEIGHT], &mut [T::Blocks]),
) {
    let unpacked = &mut unpacked[..len];
    let mut all = w.bytes.chunks(HEIGHT * w.row_bytes).peekable();
    let mut first = 0;
    while let Some(stored) = all.next() {
        let mut next = all.peek().copied().unwrap_or_default();
        let mut rows = [&stored[..w.row_bytes]; HEIGHT];
        let stored = stored.chunks_exact(w.row_bytes);
        let count = stored.len();
        rows.iter_mut().zip(stored).for_each(|(row, stored)| *row = stored);
        unpack(rows, unpacked);
        for (x, columns) in x.chunks(2 * len).zip((0..).step_by(2 * COLUMNS)) {
            let (a, b) = x.split_at(len);
            if b.is_empty() {
                put(&mut y, [first, count], columns, T::tile(unpacked, [a], next));
            } else {
                put(&mut y, [first, count], columns, T::tile(unpacked, [a, b], next));
            }
            next = &[];
        }
        first += HEIGHT;
    }
}

fn put<const C: usize>(
    y: &mut Output<'_>,
    [first, count]: [usize; 2],
    columns: usize,
    results: [[v128; C]; HEIGHT],
) {
    for (row, results) in (first..first + count).zip(results) {
        for (results, columns) in results.into_iter().zip((columns..).step_by(COLUMNS)) {
            y.put(row, columns, results);
        }
    }
}

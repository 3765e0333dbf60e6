//! Stored rows, where their products go, and what a type of weights has to offer for both.

use polychord_abi::buffers::SCRATCH;

use super::activations::{Activations, Form};
use super::ahead;
use super::order::lanes4;
use super::tile::multiply;
use crate::simd::*;

/// How weights of one type are stored.
pub(super) trait Format {
    /// Expands a stored row to floats.
    fn expand(row: &[u8], out: &mut [f32]);
    /// The product of a stored row with `x`.
    fn dot(row: &[u8], x: &[f32]) -> f32;
    /// The form of activations for integer products; without one, activations stay floats.
    const FORM: Option<Form> = None;
    /// The product with activations in that form.
    fn multiply_integer(_w: &Rows<'_>, _x: &mut Activations, _y: Output<'_>) {}
}

/// Stored rows of equal length.
#[derive(Clone, Copy)]
pub(crate) struct Rows<'a> {
    /// Weights of a row.
    pub(crate) cols: usize,
    /// All rows, one after another.
    pub(crate) bytes: &'a [u8],
    /// Bytes of a row, not zero.
    pub(crate) row_bytes: usize,
}

/// Where the product of a matrix with some columns goes: that of row `r` and column `c` to
/// `c * stride + r`. A stride beyond the number of rows leaves room for those of another matrix.
pub(crate) struct Output<'a> {
    pub(super) y: &'a mut [f32],
    stride: usize,
    pub(super) columns: usize,
}

impl<'a> Output<'a> {
    /// All of `y`, for a whole number of columns.
    pub(crate) fn whole(y: &'a mut [f32], columns: usize) -> Self {
        let stride = y.len() / columns;
        Self { y, stride, columns }
    }

    /// All of `y` from a row on.
    pub(crate) fn from_row(y: &'a mut [f32], columns: usize, row: usize) -> Self {
        let stride = y.len() / columns;
        Self { y: &mut y[row..], stride, columns }
    }

    /// Four results of a row, for columns from `first` on as far as there are any.
    pub(super) fn put(&mut self, row: usize, first: usize, results: v128) {
        for (column, result) in (first..self.columns).zip(lanes4(results)) {
            self.y[column * self.stride + row] = result;
        }
    }
}

impl Rows<'_> {
    /// Number of rows.
    pub(super) fn count(&self) -> usize {
        self.bytes.len() / self.row_bytes
    }

    /// Multiplies rows with one column by `multiply`: all at once, or, where they are touched ahead,
    /// as many as a burst has. The sum of a row is the same.
    #[inline(always)]
    pub(super) fn in_bursts(&self, y: &mut [f32], mut multiply: impl FnMut(&Self, &mut [f32])) {
        match ahead::burst() {
            0 => multiply(self, y),
            bytes => self.touched(y, bytes, &mut multiply),
        }
    }

    #[cold]
    #[inline(never)]
    fn touched(&self, y: &mut [f32], burst: usize, multiply: &mut dyn FnMut(&Self, &mut [f32])) {
        let rows = (burst / self.row_bytes).max(1);
        let parts = self.bytes.chunks(rows.saturating_mul(self.row_bytes));
        for (bytes, y) in parts.zip(y.chunks_mut(rows)) {
            ahead::touch(bytes);
            multiply(&Self { bytes, ..*self }, y);
        }
    }

    /// The product with `x[n][cols]`.
    pub(super) fn multiply<F: Format>(&self, x: &[f32], y: Output<'_>, scratch: &mut [f32]) {
        if y.columns == 1 {
            self.in_bursts(y.y, |w, y| w.multiply_column::<F>(x, y));
        } else {
            self.multiply_columns(x, y, scratch, F::expand);
        }
    }

    /// Multiplies each row with the only column.
    ///
    /// Not inlined: engines assign registers well in a small function, but in a large one
    /// they keep accumulators in memory, which costs half of the speed.
    #[inline(never)]
    fn multiply_column<F: Format>(&self, x: &[f32], y: &mut [f32]) {
        for (row, y) in self.bytes.chunks_exact(self.row_bytes).zip(y) {
            *y = F::dot(row, x);
        }
    }

    /// Expands some rows once, each by `expand`, then multiplies them with every column.
    #[inline(never)]
    fn multiply_columns(
        &self,
        x: &[f32],
        y: Output<'_>,
        scratch: &mut [f32],
        expand: fn(&[u8], &mut [f32]),
    ) {
        let rows = self.count();
        // Even, because tiles are two rows high.
        let height = (SCRATCH / self.cols).max(2) & !1;
        let stored = self.bytes.chunks(height * self.row_bytes);
        for (stored, first) in stored.zip((0..rows).step_by(height)) {
            let stored = stored.chunks_exact(self.row_bytes);
            let expanded = &mut scratch[..stored.len() * self.cols];
            for (row, out) in stored.zip(expanded.chunks_exact_mut(self.cols)) {
                expand(row, out);
            }
            multiply(expanded, x, self.cols, &mut y.y[first..], y.stride);
        }
    }
}

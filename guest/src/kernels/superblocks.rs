//! Integer products of types that store superblocks.
//!
//! # The one order
//!
//! The products of a superblock with activations are scaled by the integers of its groups and
//! summed exactly. Each superblock then adds `product * (d * x) - minima * (d_min * x)` to the
//! sum, one after another.

use super::activations::{Activations, SUPER, Super};
use super::product::{self, HALF};
use super::superblock::{Groups, Superblock};
use super::{Matrix, Output};
use crate::simd::*;

/// The weights of a superblock, as far as a product needs them.
trait Weights {
    fn groups(&self) -> &Groups;
    fn four_groups(&self, four: usize) -> [v128; 4];
}

/// As they are stored.
struct Stored<'a, S, const B: usize> {
    block: &'a [u8; B],
    groups: Groups,
    kind: core::marker::PhantomData<S>,
}

impl<S: Superblock<B>, const B: usize> Weights for Stored<'_, S, B> {
    #[inline(always)]
    fn groups(&self) -> &Groups {
        &self.groups
    }

    #[inline(always)]
    fn four_groups(&self, four: usize) -> [v128; 4] {
        S::four_groups(self.block, four)
    }
}

/// Unpacked, for many columns.
#[derive(Clone, Copy)]
pub(crate) struct Unpacked {
    values: [[v128; 4]; 4],
    groups: Groups,
}

impl Weights for Unpacked {
    #[inline(always)]
    fn groups(&self) -> &Groups {
        &self.groups
    }

    #[inline(always)]
    fn four_groups(&self, four: usize) -> [v128; 4] {
        self.values[four & 3]
    }
}

/// Adds the product of a superblock with activations. `fours` is 4: were that known here, LLVM
/// would unroll the loop, see [`quantised::dot`](super::quantised::dot).
#[inline(always)]
fn add<S: Superblock<B>, const B: usize>(
    sum: f32,
    w: &impl Weights,
    x: &Super,
    fours: usize,
) -> f32 {
    let groups = w.groups();
    let mut scales = [0; 16];
    for (to, scales) in scales.as_chunks_mut::<8>().0.iter_mut().zip(groups.scales) {
        store_16(to, scales);
    }
    let (scales, _) = scales.as_chunks::<2>().0.as_chunks::<2>();
    let (quants, _) = x.quants.as_chunks::<HALF>().0.as_chunks::<2>().0.as_chunks::<2>();
    let pair = if S::SHARED { product::scaled_32 } else { product::scaled_pair };
    let mut products = ZERO;
    for four in 0..fours {
        let [a, b, c, d] = w.four_groups(four);
        let (scales, quants) = (&scales[four & 3], &quants[four & 3]);
        products = i32x4_add(products, pair([a, b], &quants[0], &scales[0]));
        products = i32x4_add(products, pair([c, d], &quants[1], &scales[1]));
    }
    if S::OFFSET != 0 {
        let offset = i32x4_splat(S::OFFSET.into());
        products = i32x4_sub(products, i32x4_mul(with_sums(groups.scales, x), offset));
    }
    let scale = f32x4_extract_lane::<0>(f32x4_mul(groups.d, x.scale));
    let sum = sum + product::sum(products) as f32 * scale;
    if !S::MINIMUM {
        return sum;
    }
    let scale = f32x4_extract_lane::<0>(f32x4_mul(groups.d_min, x.scale));
    sum - product::sum(with_sums(groups.minima, x)) as f32 * scale
}

/// Numbers of the groups times the groups' sums of activations.
#[inline(always)]
fn with_sums(numbers: [v128; 2], x: &Super) -> v128 {
    let dot = |i: usize| i32x4_dot_i16x8(numbers[i], x.sums[i]);
    i32x4_add(dot(0), dot(1))
}

/// The product with activations that are quantised.
pub(super) fn multiply<S: Superblock<B>, const B: usize>(
    w: &Matrix<'_>,
    activations: &mut Activations,
    y: Output<'_>,
) {
    let x = &activations.supers[..y.columns * (w.cols / SUPER)];
    if y.columns == 1 {
        multiply_column::<S, B>(w, x, y.y);
    } else {
        multiply_columns::<S, B>(w, x, y, activations.unpacked_supers);
    }
}

/// Multiplies each stored row with the only column.
#[inline(never)]
fn multiply_column<S: Superblock<B>, const B: usize>(w: &Matrix<'_>, x: &[Super], y: &mut [f32]) {
    let fours = w.cols / x.len().max(1) / 64;
    for (row, y) in w.bytes.chunks_exact(w.row_bytes).zip(y) {
        let blocks = row.as_chunks::<B>().0.iter().zip(x);
        *y = blocks.fold(0.0, |sum, (block, x)| {
            let kind = core::marker::PhantomData::<S>;
            add::<S, B>(sum, &Stored { block, groups: S::groups(block), kind }, x, fours)
        });
    }
}

/// Unpacks each row once, then multiplies it with every column.
#[inline(never)]
fn multiply_columns<S: Superblock<B>, const B: usize>(
    w: &Matrix<'_>,
    x: &[Super],
    mut y: Output<'_>,
    unpacked: &mut [Unpacked],
) {
    let len = w.cols / SUPER;
    let fours = w.cols / len.max(1) / 64;
    for (at, row) in w.bytes.chunks_exact(w.row_bytes).enumerate() {
        unpack::<S, B>(row, unpacked);
        for (x, y) in x.chunks_exact(len).zip(y.columns(at..at + 1)) {
            let blocks = unpacked.iter().zip(x);
            y[0] = blocks.fold(0.0, |sum, (w, x)| add::<S, B>(sum, w, x, fours));
        }
    }
}

/// Unpacks a stored row.
#[inline(never)]
fn unpack<S: Superblock<B>, const B: usize>(row: &[u8], out: &mut [Unpacked]) {
    for (block, out) in row.as_chunks::<B>().0.iter().zip(out) {
        out.groups = S::groups(block);
        for (four, values) in out.values.iter_mut().enumerate() {
            *values = S::four_groups(block, four);
        }
    }
}

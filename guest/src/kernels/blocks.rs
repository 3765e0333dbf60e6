//! Integer products of types that store blocks of 32 weights.
//!
//! # The one order
//!
//! Block `b` of a row adds to lane `b mod 4`, in order of `b`: first its product, then its
//! minimum. At the end the sum is `(s0 + s1) + (s2 + s3)`. Products within a block are exact,
//! so that it does not matter how many of them an instruction makes.

use core::hint::black_box;

use super::activations::{Activations, GROUP, Group};
use super::{Matrix, Output, lanes4};
use crate::simd::*;

/// A type of which 32 weights take `B` bytes, and their values `V` vectors.
pub(super) trait Blocks<const B: usize, const V: usize> {
    /// What is taken from each stored value.
    const OFFSET: i32;
    /// Whether blocks have a minimum.
    const MINIMUM: bool;

    /// The values of a block, ready to be multiplied.
    fn values(block: &[u8; B]) -> [v128; V];

    /// Their product with activations, in partial sums.
    fn product(values: [v128; V], x: &[v128; V]) -> v128;

    /// The sums of the partial sums of four blocks.
    fn sums(products: [v128; 4]) -> v128;

    /// The 16-bit floats of scale (lower half) and minimum (upper half, else anything).
    fn scale(block: &[u8; B]) -> u32;
}

/// Four blocks of weights.
trait Four<const V: usize> {
    fn values(&self, block: usize) -> [v128; V];
    fn scales(&self) -> v128;
    fn minima(&self) -> v128;
}

/// As they are stored; if fewer than four, the others are zero.
struct Stored<'a, T, const B: usize, const N: usize> {
    blocks: &'a [[u8; B]; N],
    both: v128,
    kind: core::marker::PhantomData<T>,
}

impl<'a, T, const B: usize, const N: usize> Stored<'a, T, B, N> {
    #[inline(always)]
    fn new<const V: usize>(blocks: &'a [[u8; B]; N]) -> Self
    where
        T: Blocks<B, V>,
    {
        let both = |i: usize| if i < N { T::scale(&blocks[i]) } else { 0 };
        let both = u32x4(both(0), both(1), both(2), both(3));
        Self { blocks, both, kind: core::marker::PhantomData }
    }
}

impl<T: Blocks<B, V>, const B: usize, const V: usize, const N: usize> Four<V>
    for Stored<'_, T, B, N>
{
    #[inline(always)]
    fn values(&self, block: usize) -> [v128; V] {
        if block < N { T::values(&self.blocks[block]) } else { [ZERO; V] }
    }

    #[inline(always)]
    fn scales(&self) -> v128 {
        super::f16::from_upper_bits(i32x4_shl(self.both, 16))
    }

    #[inline(always)]
    fn minima(&self) -> v128 {
        super::f16::from_upper_bits(self.both)
    }
}

/// Unpacked, for many columns.
impl<const V: usize> Four<V> for Group {
    #[inline(always)]
    fn values(&self, block: usize) -> [v128; V] {
        core::array::from_fn(|i| self.quants[block * V + i])
    }

    #[inline(always)]
    fn scales(&self) -> v128 {
        self.scales
    }

    #[inline(always)]
    fn minima(&self) -> v128 {
        self.scaled
    }
}

/// Adds the product of four blocks to the lanes of a sum.
#[inline(always)]
fn add<T: Blocks<B, V>, const B: usize, const V: usize>(
    sum: v128,
    w: &impl Four<V>,
    x: &Group,
) -> v128 {
    let (blocks, _) = x.quants.as_chunks::<V>();
    let product = |block: usize| T::product(w.values(block), &blocks[block]);
    let products = [product(0), product(1), product(2), product(3)];
    let mut products = T::sums(products);
    if T::OFFSET != 0 {
        products = i32x4_sub(products, i32x4_mul(x.sums, i32x4_splat(T::OFFSET)));
    }
    let scales = f32x4_mul(w.scales(), x.scales);
    let sum = f32x4_add(sum, f32x4_mul(f32x4_convert_i32x4(products), scales));
    if T::MINIMUM { f32x4_add(sum, f32x4_mul(w.minima(), x.scaled)) } else { sum }
}

#[inline(always)]
fn finish(sum: v128) -> f32 {
    let [a, b, c, d] = lanes4(sum);
    (a + b) + (c + d)
}

/// The product of a stored row with one column.
#[inline(always)]
fn dot<T: Blocks<B, V>, const B: usize, const V: usize>(row: &[u8], x: &[Group]) -> f32 {
    let (fours, rest) = row.as_chunks::<B>().0.as_chunks::<4>();
    let mut sum = ZERO;
    for (four, x) in fours.iter().zip(x) {
        // LLVM, which no longer sees where they come from, puts offsets into the loads.
        let (four, x) = (black_box(four), black_box(x));
        sum = add::<T, B, V>(sum, &Stored::<T, B, 4>::new(four), x);
    }
    let Some(x) = x.get(fours.len()) else { return finish(sum) };
    // The number of blocks is known in each arm, and what is missing costs nothing.
    finish(if let Ok(three) = rest.try_into() {
        add::<T, B, V>(sum, &Stored::<T, B, 3>::new(three), x)
    } else if let Ok(two) = rest.try_into() {
        add::<T, B, V>(sum, &Stored::<T, B, 2>::new(two), x)
    } else if let Ok(one) = rest.try_into() {
        add::<T, B, V>(sum, &Stored::<T, B, 1>::new(one), x)
    } else {
        sum
    })
}

/// The product with activations that are quantised.
pub(super) fn multiply<T: Blocks<B, V>, const B: usize, const V: usize>(
    w: &Matrix<'_>,
    activations: &mut Activations,
    y: Output<'_>,
) {
    let x = &activations.groups[..y.columns * w.cols.div_ceil(GROUP)];
    if y.columns == 1 {
        multiply_column::<T, B, V>(w, x, y.y);
    } else {
        multiply_columns::<T, B, V>(w, x, y, activations.unpacked_groups);
    }
}

/// Multiplies each stored row with the only column.
#[inline(never)]
fn multiply_column<T: Blocks<B, V>, const B: usize, const V: usize>(
    w: &Matrix<'_>,
    x: &[Group],
    y: &mut [f32],
) {
    for (row, y) in w.bytes.chunks_exact(w.row_bytes).zip(y) {
        *y = dot::<T, B, V>(row, x);
    }
}

/// Unpacks a stored row.
#[inline(never)]
fn unpack<T: Blocks<B, V>, const B: usize, const V: usize>(row: &[u8], out: &mut [Group]) {
    for (blocks, out) in row.as_chunks::<B>().0.chunks(4).zip(out) {
        let mut four = [[0; B]; 4];
        for (to, block) in four.iter_mut().zip(blocks) {
            *to = *block;
        }
        let four = Stored::<T, B, 4>::new(&four);
        for (block, to) in out.quants.as_chunks_mut::<V>().0.iter_mut().take(4).enumerate() {
            *to = four.values(block);
        }
        (out.scales, out.scaled) = (four.scales(), four.minima());
    }
}

/// Rows that are unpacked together, so that a column is read from a cache for all of them.
pub(super) const HEIGHT: usize = 4;

/// Unpacks some rows once, then multiplies them with every column.
#[inline(never)]
fn multiply_columns<T: Blocks<B, V>, const B: usize, const V: usize>(
    w: &Matrix<'_>,
    x: &[Group],
    mut y: Output<'_>,
    unpacked: &mut [Group],
) {
    let len = w.cols.div_ceil(GROUP);
    let stored = w.bytes.chunks(HEIGHT * w.row_bytes);
    for (stored, first) in stored.zip((0..w.rows()).step_by(HEIGHT)) {
        let stored = stored.chunks_exact(w.row_bytes);
        let height = stored.len();
        for (row, out) in stored.zip(unpacked.chunks_exact_mut(len)) {
            unpack::<T, B, V>(row, out);
        }
        for (x, y) in x.chunks_exact(len).zip(y.columns(first..first + height)) {
            let unpacked = unpacked.chunks_exact(len);
            for (row, y) in unpacked.zip(y) {
                *y = dot_unpacked::<T, B, V>(row, x);
            }
        }
    }
}

/// The product of an unpacked row with one column.
#[inline(always)]
fn dot_unpacked<T: Blocks<B, V>, const B: usize, const V: usize>(
    row: &[Group],
    x: &[Group],
) -> f32 {
    finish(row.iter().zip(x).fold(ZERO, |sum, (w, x)| add::<T, B, V>(sum, w, x)))
}

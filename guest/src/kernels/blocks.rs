//! Integer products of types that store blocks of 32 weights.
//!
//! # The one order
//!
//! Block `b` of a row adds to lane `b mod 4`, in order of `b`: first its product, then its
//! minimum. At the end the sum is `(s0 + s1) + (s2 + s3)`. Products within a block are exact,
//! so that it does not matter how many of them an instruction makes.

use core::hint::black_box;
use core::marker::PhantomData;

use super::activations::{Activations, BLOCK, COLUMNS, GROUP, HEIGHT};
use super::columns::{self, Tiles};
use super::groups::{Group, UnpackedBlocks};
use super::order::lanes4;
use super::product::Product;
use super::quantized::POWERS;
use super::rows::{Output, Rows};
use crate::simd::*;

/// A type of which 32 weights take `B` bytes, and their values `V` vectors.
pub(super) trait Blocks<const B: usize, const V: usize> {
    /// How values are multiplied.
    type Product: Product<V>;
    /// What is taken from each stored value.
    const OFFSET: i32;
    /// Whether blocks have a minimum.
    const MINIMUM: bool;

    /// The values of a block, ready to be multiplied. `powers` are 1, 2, 4 to 128, twice: did LLVM
    /// know that, it would make more instructions of a test of bits.
    fn values(block: &[u8; B], powers: v128) -> [v128; V];

    /// The 16-bit floats of scale (lower half) and minimum (upper half, else anything).
    fn scale(block: &[u8; B]) -> u32;

    /// The scales of four blocks, of what [`scale`](Self::scale) says of each: another type of
    /// float than that, where a type has one.
    #[inline(always)]
    fn scales(stored: v128) -> v128 {
        super::halves::from_upper_bits(i32x4_shl(stored, 16))
    }
}

/// Four blocks of a stored row; if fewer than four, the others are zero.
struct Four<'a, T, const B: usize, const N: usize> {
    blocks: &'a [[u8; B]; N],
    both: v128,
    powers: v128,
    kind: PhantomData<T>,
}

impl<'a, T, const B: usize, const N: usize> Four<'a, T, B, N> {
    #[inline(always)]
    fn new<const V: usize>(blocks: &'a [[u8; B]; N], powers: v128) -> Self
    where
        T: Blocks<B, V>,
    {
        let both = |i: usize| if i < N { T::scale(&blocks[i]) } else { 0 };
        let both = u32x4(both(0), both(1), both(2), both(3));
        Self { blocks, both, powers, kind: PhantomData }
    }

    #[inline(always)]
    fn product<const V: usize>(&self, block: usize, x: &[v128; V]) -> v128
    where
        T: Blocks<B, V>,
    {
        if block < N {
            settle(T::Product::product(T::values(&self.blocks[block], self.powers), x))
        } else {
            ZERO
        }
    }

    /// Adds the product to the lanes of a sum.
    #[inline(always)]
    fn add<const V: usize>(&self, sum: v128, x: &Group) -> v128
    where
        T: Blocks<B, V>,
    {
        let (blocks, _) = x.quants.as_chunks::<V>();
        let product = |block: usize| self.product(block, &blocks[block]);
        let products = T::Product::sums([product(0), product(1), product(2), product(3)]);
        add::<T, B, V>(sum, products, T::scales(self.both), minima(self.both), x)
    }
}

#[inline(always)]
fn minima(both: v128) -> v128 {
    super::halves::from_upper_bits(both)
}

/// Adds the products of four blocks to the lanes of a sum.
#[inline(always)]
fn add<T: Blocks<B, V>, const B: usize, const V: usize>(
    sum: v128,
    mut products: v128,
    scales: v128,
    minima: v128,
    x: &Group,
) -> v128 {
    if T::OFFSET != 0 {
        products = i32x4_sub(products, i32x4_mul(x.sums, i32x4_splat(T::OFFSET)));
    }
    let scales = f32x4_mul(scales, x.scales);
    let sum = f32x4_add(sum, f32x4_mul(f32x4_convert_i32x4(products), scales));
    if T::MINIMUM { f32x4_add(sum, f32x4_mul(minima, x.scaled)) } else { sum }
}

#[inline(always)]
fn finish(sum: v128) -> f32 {
    let [a, b, c, d] = lanes4(sum);
    (a + b) + (c + d)
}

/// The product of a stored row with one column.
#[inline(always)]
fn dot<T: Blocks<B, V>, const B: usize, const V: usize>(
    row: &[u8],
    x: &[Group],
    powers: v128,
) -> f32 {
    let (fours, rest) = row.as_chunks::<B>().0.as_chunks::<4>();
    let mut sum = ZERO;
    for (four, x) in fours.iter().zip(x) {
        // LLVM, which no longer sees where they come from, puts offsets into the loads.
        let (four, x) = (black_box(four), black_box(x));
        sum = Four::<T, B, 4>::new(four, powers).add(sum, x);
    }
    let Some(x) = x.get(fours.len()) else { return finish(sum) };
    // The number of blocks is known in each arm, and what is missing costs nothing.
    finish(if let Ok(three) = rest.try_into() {
        Four::<T, B, 3>::new(three, powers).add(sum, x)
    } else if let Ok(two) = rest.try_into() {
        Four::<T, B, 2>::new(two, powers).add(sum, x)
    } else if let Ok(one) = rest.try_into() {
        Four::<T, B, 1>::new(one, powers).add(sum, x)
    } else {
        sum
    })
}

/// The product with activations that are quantized.
pub(super) fn multiply<T: Blocks<B, V>, const B: usize, const V: usize>(
    w: &Rows<'_>,
    activations: &mut Activations,
    y: Output<'_>,
) {
    if y.columns == 1 {
        let x = &activations.groups[..w.cols.div_ceil(GROUP)];
        w.in_bursts(y.y, |w, y| multiply_column::<T, B, V>(w, x, y));
    } else {
        let len = w.cols / BLOCK;
        let x = &activations.groups[..y.columns.div_ceil(COLUMNS) * len];
        let unpack = unpack::<T, B, V>;
        columns::multiply::<Tile<T, B, V>>(w, len, x, y, activations.unpacked_blocks, unpack);
    }
}

/// Multiplies each stored row with the only column.
#[inline(never)]
fn multiply_column<T: Blocks<B, V>, const B: usize, const V: usize>(
    w: &Rows<'_>,
    x: &[Group],
    y: &mut [f32],
) {
    let powers = black_box(u64x2_splat(POWERS));
    for (row, y) in w.bytes.chunks_exact(w.row_bytes).zip(y) {
        *y = dot::<T, B, V>(row, x, powers);
    }
}

/// Unpacks stored rows.
#[inline(never)]
fn unpack<T: Blocks<B, V>, const B: usize, const V: usize>(
    rows: [&[u8]; HEIGHT],
    out: &mut [UnpackedBlocks],
) {
    let powers = black_box(u64x2_splat(POWERS));
    let rows = rows.map(|row| &row.as_chunks::<B>().0[..out.len()]);
    for (at, out) in out.iter_mut().enumerate() {
        let (blocks, out) = (rows.map(|row| black_box(&row[at])), black_box(out));
        for (block, out) in blocks.into_iter().zip(out.values.as_chunks_mut::<V>().0) {
            *out = T::values(block, powers);
        }
        let [a, b, c, d] = blocks.map(T::scale);
        let both = u32x4(a, b, c, d);
        (out.scales, out.minima) = (T::scales(both), minima(both));
    }
}

/// Products of a type with many columns.
struct Tile<T, const B: usize, const V: usize>(PhantomData<T>);

impl<T: Blocks<B, V>, const B: usize, const V: usize> Tiles for Tile<T, B, V> {
    type Blocks = UnpackedBlocks;
    type Columns = Group;

    /// What is a lane for one column is an accumulator here, so that each sum has the one order.
    #[inline(never)]
    fn tile<const C: usize>(
        w: &[UnpackedBlocks],
        x: [&[Group]; C],
        next: &[u8],
    ) -> [[v128; C]; HEIGHT] {
        let (mut sums, mut touched) = ([[[ZERO; C]; HEIGHT]; 4], 0);
        let mut next = next.chunks_exact(HEIGHT * B);
        let x = x.map(|x| &x[..w.len()]);
        for (block, w) in w.iter().enumerate() {
            let (w, x) = (black_box(w), x.map(|x| black_box(&x[block])));
            // A line or two now and then: memory brings the next rows while these are multiplied.
            if let Some(next) = next.next() {
                touched ^= next[0] ^ next[64] ^ next[HEIGHT * B - 1];
            }
            let values: [&_; HEIGHT] =
                core::array::from_fn(|row| &w.values.as_chunks::<V>().0[row]);
            let products = T::Product::block(values, x.map(|x| &x.quants));
            let (scales, minima) = (four_times(w.scales), four_times(w.minima));
            for (row, sums) in sums[block & 3].iter_mut().enumerate() {
                for ((sum, products), x) in sums.iter_mut().zip(products[row]).zip(x) {
                    *sum = add::<T, B, V>(*sum, products, scales[row], minima[row], x);
                }
            }
        }
        black_box(touched);
        let [a, b, c, d] = sums;
        let sum = |r: usize, i: usize| {
            f32x4_add(f32x4_add(a[r][i], b[r][i]), f32x4_add(c[r][i], d[r][i]))
        };
        core::array::from_fn(|r| core::array::from_fn(|i| sum(r, i)))
    }
}

/// Makes a [`Format`](super::rows::Format) of a quantized type.
macro_rules! quantized_format {
    ($name:ident, $form:ident) => {
        impl super::rows::Format for $name {
            #[inline(never)]
            fn expand(row: &[u8], out: &mut [f32]) {
                super::quantized::expand::<Self, BYTES>(row, out);
            }
            #[inline(always)]
            fn dot(row: &[u8], x: &[f32]) -> f32 {
                super::quantized::dot::<Self, BYTES>(row, x)
            }
            const FORM: Option<super::activations::Form> = Some(super::activations::Form::$form);
            fn multiply_integer(
                w: &super::rows::Rows<'_>,
                x: &mut super::activations::Activations,
                y: super::rows::Output<'_>,
            ) {
                super::blocks::multiply::<Self, BYTES, _>(w, x, y);
            }
        }
    };
}
pub(super) use quantized_format;

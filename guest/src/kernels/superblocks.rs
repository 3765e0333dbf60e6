//! Integer products of types that store superblocks.
//!
//! # The one order
//!
//! The products of a superblock with activations are scaled by the integers of its groups and
//! summed exactly. Each superblock then adds `product * (d * x) - minima * (d_min * x)` to the
//! sum, one after another.

use core::hint::black_box;
use core::marker::PhantomData;

use super::activations::{Activations, COLUMNS, HEIGHT, SUPER};
use super::columns::{self, Tiles};
use super::groups::{Super, UnpackedSuper};
use super::product::{self, HALF, Values};
use super::rows::{Output, Rows};
use super::superblock::{Groups, Superblock};
use crate::simd::*;

/// Adds the product of a stored superblock with activations.
#[inline(always)]
pub(super) fn add<S: Superblock<B>, const B: usize>(sum: f32, w: &[u8; B], x: &Super) -> f32 {
    let groups = S::groups(w);
    let scales = by_quarter(groups.scales);
    let (quants, _) = x.quants.as_chunks::<HALF>().0.as_chunks::<2>().0.as_chunks::<2>();
    let pair = match S::VALUES {
        Values::Small | Values::Large => product::scaled_pair,
        Values::Shared => product::scaled_32,
        Values::Medium => product::scaled_medium,
        Values::Signed => product::scaled_signed,
    };
    let add_four = |sum, four: usize| {
        let [a, b, c, d] = S::four_groups(w, four);
        let ([ab, cd], quants) = (scales[four], &quants[four]);
        let scaled = i32x4_add(pair([a, b], &quants[0], ab), pair([c, d], &quants[1], cd));
        settle(i32x4_add(sum, scaled))
    };
    // No loop, which LLVM would not unroll for all types.
    let mut products = add_four(add_four(add_four(add_four(ZERO, 0), 1), 2), 3);
    let others = with_sums(numbers::<S, B>(&groups), x);
    if const { offset::<S, B>() } != 0 {
        products = i32x4_sub(products, i32x4_mul(others, i32x4_splat(offset::<S, B>())));
    }
    let scale = f32x4_extract_lane::<0>(f32x4_mul(groups.d, x.scale));
    let sum = sum + product::sum(products) as f32 * scale;
    if !S::MINIMUM {
        return sum;
    }
    let scale = f32x4_extract_lane::<0>(f32x4_mul(groups.d_min, x.scale));
    sum - product::sum(others) as f32 * scale
}

/// What is taken from each value as it is multiplied.
const fn offset<S: Superblock<B>, const B: usize>() -> i32 {
    S::OFFSET as i32 + S::VALUES.bias() as i32
}

/// What the groups' sums of activations are multiplied with, if anything: no type has both an
/// offset and minima.
#[inline(always)]
fn numbers<S: Superblock<B>, const B: usize>(groups: &Groups) -> [v128; 2] {
    const { assert!(!(S::MINIMUM && S::OFFSET != 0)) };
    if S::MINIMUM { groups.minima } else { groups.scales }
}

/// [`numbers`] times some groups' sums of activations.
#[inline(always)]
fn with_sums(numbers: [v128; 2], x: &Super) -> v128 {
    let dot = |i: usize| i32x4_dot_i16x8(numbers[i], x.sums[i]);
    i32x4_add(dot(0), dot(1))
}

/// The product with activations that are quantized.
pub(super) fn multiply<S: Superblock<B>, const B: usize>(
    w: &Rows<'_>,
    activations: &mut Activations,
    y: Output<'_>,
) {
    let len = w.cols / SUPER;
    if y.columns == 1 {
        let x = &activations.supers[..len];
        w.in_bursts(y.y, |w, y| multiply_column::<S, B>(w, x, y));
    } else {
        let (x, _) = activations.supers.as_chunks::<COLUMNS>();
        let x = &x[..y.columns.div_ceil(COLUMNS) * len];
        let unpack = unpack_rows::<S, B>;
        columns::multiply::<Quarters<S, B>>(w, len, x, y, activations.unpacked_supers, unpack);
    }
}

/// Multiplies each stored row with the only column.
#[inline(never)]
fn multiply_column<S: Superblock<B>, const B: usize>(w: &Rows<'_>, x: &[Super], y: &mut [f32]) {
    for (row, y) in w.bytes.chunks_exact(w.row_bytes).zip(y) {
        let blocks = row.as_chunks::<B>().0.iter().zip(x);
        *y = blocks.fold(0.0, |sum, (w, x)| add::<S, B>(sum, black_box(w), black_box(x)));
    }
}

/// Unpacks stored rows.
fn unpack_rows<S: Superblock<B>, const B: usize>(
    rows: [&[u8]; HEIGHT],
    out: &mut [[UnpackedSuper; HEIGHT]],
) {
    for (row, stored) in rows.into_iter().enumerate() {
        unpack_row::<S, B>(stored, row, out);
    }
}

/// Unpacks one of them.
#[inline(never)]
fn unpack_row<S: Superblock<B>, const B: usize>(
    stored: &[u8],
    row: usize,
    out: &mut [[UnpackedSuper; HEIGHT]],
) {
    for (block, out) in stored.as_chunks::<B>().0.iter().zip(out) {
        unpack::<S, B>(block, &mut out[row % HEIGHT]);
    }
}

/// Products of a type with many columns.
pub(super) struct Quarters<S, const B: usize>(PhantomData<S>);

impl<S: Superblock<B>, const B: usize> Tiles for Quarters<S, B> {
    type Blocks = [UnpackedSuper; HEIGHT];
    type Columns = [Super; COLUMNS];

    fn tile<const C: usize>(
        w: &[[UnpackedSuper; HEIGHT]],
        x: [&[[Super; COLUMNS]]; C],
        _next: &[u8],
    ) -> [[v128; C]; HEIGHT] {
        core::array::from_fn(|row| Self::row(w, row, x))
    }
}

impl<S: Superblock<B>, const B: usize> Quarters<S, B> {
    #[inline(never)]
    fn row<const C: usize>(
        w: &[[UnpackedSuper; HEIGHT]],
        row: usize,
        x: [&[[Super; COLUMNS]]; C],
    ) -> [v128; C] {
        // Were it known here, LLVM would unroll the loop.
        let quarters = black_box(4);
        let mut sums = [ZERO; C];
        let x = x.map(|x| &x[..w.len()]);
        for (block, w) in w.iter().enumerate() {
            let w = &w[row % HEIGHT];
            let (mut products, mut others) = ([ZERO; C], [ZERO; C]);
            for quarter in 0..quarters {
                let x = x.map(|x| black_box(&x[block][quarter & 3]));
                let w = black_box(&w.quarters[quarter & 3]);
                for group in 0..4 {
                    let values = w.values[group].map(four_times);
                    for (sum, x) in products.iter_mut().zip(x) {
                        let x = &x.quants.as_chunks::<{ 4 * HALF }>().0[group];
                        let scaled = product::scaled_columns(values, x, w.scales[group], S::VALUES);
                        *sum = settle(i32x4_add(*sum, scaled));
                    }
                }
                for (sum, x) in others.iter_mut().zip(x) {
                    *sum = i32x4_add(*sum, with_sums(w.numbers, x));
                }
            }
            for (i, sum) in sums.iter_mut().enumerate() {
                let (mut product, scale) = (products[i], x[i][block][0].scale);
                if const { offset::<S, B>() } != 0 {
                    let offset = i32x4_splat(offset::<S, B>());
                    product = i32x4_sub(product, i32x4_mul(others[i], offset));
                }
                let product = f32x4_mul(f32x4_convert_i32x4(product), f32x4_mul(w.d, scale));
                *sum = f32x4_add(*sum, product);
                if S::MINIMUM {
                    let minimum =
                        f32x4_mul(f32x4_convert_i32x4(others[i]), f32x4_mul(w.d_min, scale));
                    *sum = f32x4_sub(*sum, minimum);
                }
            }
        }
        sums
    }
}

/// Unpacks a superblock.
#[inline(always)]
pub(super) fn unpack<S: Superblock<B>, const B: usize>(block: &[u8; B], out: &mut UnpackedSuper) {
    let groups = S::groups(block);
    (out.d, out.d_min) = (groups.d, groups.d_min);
    let scales = by_quarter(groups.scales);
    let numbers = by_quarter(numbers::<S, B>(&groups));
    for (four, out) in out.quarters.iter_mut().enumerate() {
        out.values = S::four_groups(block, four).map(|values| product::split_of(values, S::VALUES));
        let [[a, b], [c, d]] = scales[four].map(product::scales);
        (out.scales, out.numbers) = ([a, b, c, d], numbers[four]);
    }
}

/// Each two of 16 numbers in all lanes.
#[inline(always)]
fn by_quarter(numbers: [v128; 2]) -> [[v128; 2]; 4] {
    let [[a, b, c, d], [e, f, g, h]] = numbers.map(four_times);
    [[a, b], [c, d], [e, f], [g, h]]
}

/// Makes a [`Format`](super::rows::Format) of a type with superblocks.
macro_rules! superblock_format {
    ($name:ident) => {
        impl super::rows::Format for $name {
            #[inline(never)]
            fn expand(row: &[u8], out: &mut [f32]) {
                super::superblock::expand::<Self, BYTES>(row, out);
            }
            #[inline(always)]
            fn dot(row: &[u8], x: &[f32]) -> f32 {
                super::superblock::dot::<Self, BYTES>(row, x)
            }
            const FORM: Option<super::activations::Form> = Some(super::activations::Form::Super);
            fn multiply_integer(
                w: &super::rows::Rows<'_>,
                x: &mut super::activations::Activations,
                y: super::rows::Output<'_>,
            ) {
                super::superblocks::multiply::<Self, BYTES>(w, x, y);
            }
        }
    };
}
pub(super) use superblock_format;

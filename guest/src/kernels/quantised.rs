//! Types that store blocks of 32 weights, in `B` bytes with their scales.

use super::{multiply_add, sum};
use crate::simd::*;

/// A type of which 32 weights take `B` bytes.
pub(super) trait Quantised<const B: usize> {
    /// The scales of four blocks, in four lanes each.
    type Scales: Copy;

    /// Reads the scales of four blocks at once.
    fn scales(blocks: [&[u8; B]; 4]) -> Self::Scales;

    /// Calls `visit(v, weights)` for the vectors of a block, whose scales are in `LANE`.
    ///
    /// It may change the order of vectors, but not of those that are equal mod 4.
    fn each_vector<const LANE: usize>(
        block: &[u8; B],
        scales: Self::Scales,
        visit: impl FnMut(usize, v128),
    );
}

/// The product of a stored row with `x`, in the one order, four blocks a step.
#[inline(always)]
pub(super) fn dot<Q: Quantised<B>, const B: usize>(row: &[u8], x: &[f32]) -> f32 {
    let (blocks, _) = row.as_chunks::<B>();
    let (x_blocks, _) = x.as_chunks::<32>();
    let (fours, last) = blocks.as_chunks::<4>();
    let (x_fours, x_last) = x_blocks.as_chunks::<4>();
    let mut acc = [ZERO; 4];
    for (blocks, x) in fours.iter().zip(x_fours) {
        let scales = Q::scales(blocks.each_ref());
        add_block::<Q, B, 0>(&mut acc, &blocks[0], scales, &x[0]);
        add_block::<Q, B, 1>(&mut acc, &blocks[1], scales, &x[1]);
        add_block::<Q, B, 2>(&mut acc, &blocks[2], scales, &x[2]);
        add_block::<Q, B, 3>(&mut acc, &blocks[3], scales, &x[3]);
    }
    for (block, x) in last.iter().zip(x_last) {
        add_block::<Q, B, 0>(&mut acc, block, Q::scales([block; 4]), x);
    }
    sum(acc)
}

#[inline(always)]
fn add_block<Q: Quantised<B>, const B: usize, const LANE: usize>(
    acc: &mut [v128; 4],
    block: &[u8; B],
    scales: Q::Scales,
    x: &[f32; 32],
) {
    let (x, _) = x.as_chunks::<4>();
    Q::each_vector::<LANE>(block, scales, |v, weights| {
        acc[v % 4] = multiply_add(acc[v % 4], weights, load(&x[v]));
    });
}

/// Expands a stored row.
#[inline(always)]
pub(super) fn expand<Q: Quantised<B>, const B: usize>(row: &[u8], out: &mut [f32]) {
    let (blocks, _) = row.as_chunks::<B>();
    let (outs, _) = out.as_chunks_mut::<32>();
    for (block, out) in blocks.iter().zip(outs) {
        let (out, _) = out.as_chunks_mut::<4>();
        Q::each_vector::<0>(block, Q::scales([block; 4]), |v, weights| {
            store(&mut out[v], weights);
        });
    }
}

/// Calls `visit` with 16 unsigned bytes as four vectors of floats, the first being `first`.
#[inline(always)]
pub(super) fn unsigned_bytes(bytes: v128, first: usize, mut visit: impl FnMut(usize, v128)) {
    let (low, high) = (u16x8_extend_low_u8x16(bytes), u16x8_extend_high_u8x16(bytes));
    visit(first, f32x4_convert_i32x4(u32x4_extend_low_u16x8(low)));
    visit(first + 1, f32x4_convert_i32x4(u32x4_extend_high_u16x8(low)));
    visit(first + 2, f32x4_convert_i32x4(u32x4_extend_low_u16x8(high)));
    visit(first + 3, f32x4_convert_i32x4(u32x4_extend_high_u16x8(high)));
}

/// The same with signed bytes.
#[inline(always)]
pub(super) fn signed_bytes(bytes: v128, first: usize, mut visit: impl FnMut(usize, v128)) {
    let (low, high) = (i16x8_extend_low_i8x16(bytes), i16x8_extend_high_i8x16(bytes));
    visit(first, f32x4_convert_i32x4(i32x4_extend_low_i16x8(low)));
    visit(first + 1, f32x4_convert_i32x4(i32x4_extend_high_i16x8(low)));
    visit(first + 2, f32x4_convert_i32x4(i32x4_extend_low_i16x8(high)));
    visit(first + 3, f32x4_convert_i32x4(i32x4_extend_high_i16x8(high)));
}

/// The lower and the upper four bits of 16 bytes: weights 0 to 15, and 16 to 31.
#[inline(always)]
pub(super) fn nibbles(bytes: &[u8; 16]) -> (v128, v128) {
    let bytes = load_bytes(bytes);
    (v128_and(bytes, u8x16_splat(0x0f)), u8x16_shr(bytes, 4))
}

/// The two bytes at the start of a block, sign-extended: an f16 for `f16::from_bits`.
#[inline(always)]
pub(super) fn first_half<const B: usize>(block: &[u8; B]) -> i32 {
    i32::from(i16::from_le_bytes(*part::<0, 2, _, B>(block)))
}

/// One lane in all four.
#[inline(always)]
pub(super) fn broadcast<const LANE: usize>(v: v128) -> v128 {
    i32x4_shuffle::<LANE, LANE, LANE, LANE>(v, v)
}

/// Makes a [`Format`](super::Format) of a quantised type.
macro_rules! quantised_format {
    ($name:ident) => {
        impl super::Format for $name {
            fn expand(row: &[u8], out: &mut [f32]) {
                super::quantised::expand::<Self, BYTES>(row, out);
            }
            fn dot(row: &[u8], x: &[f32]) -> f32 {
                super::quantised::dot::<Self, BYTES>(row, x)
            }
        }
    };
}
pub(super) use quantised_format;

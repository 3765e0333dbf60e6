//! Types that store blocks of 32 weights, in `B` bytes with their scales.

use super::order::{multiply_add, sum};
use super::product::{self, UNSIGNED};
use crate::simd::*;

/// A type of which 32 weights take `B` bytes.
pub(super) trait Quantized<const B: usize>: Sized {
    /// A block in registers: its scales, and values of which the first 16 are next.
    fn new(block: &[u8; B]) -> Self;

    /// The next four vectors of weights, given to `visit(v, weights)` with `v` from 0 to 3.
    fn next(&mut self, visit: impl FnMut(usize, v128));
}

/// The product of a stored row with `x`, in the one order.
///
/// Half a block is one turn of a loop on purpose. Cranelift does all loads of a straight
/// piece of code first, and what it computes from them last: with more of them at once it
/// runs out of registers, and accumulators in memory double the time.
#[inline(always)]
pub(super) fn dot<Q: Quantized<B>, const B: usize>(row: &[u8], x: &[f32]) -> f32 {
    let (blocks, _) = row.as_chunks::<B>();
    // It is 32, but were that known here, LLVM would unroll the loop over the halves.
    let weights = x.len() / blocks.len().max(1);
    let mut acc = [ZERO; 4];
    for (block, x) in blocks.iter().zip(x.chunks_exact(weights.max(1))) {
        let mut block = Q::new(block);
        for half in x.as_chunks::<16>().0 {
            let (x, _) = half.as_chunks::<4>();
            block.next(|v, weights| acc[v] = multiply_add(acc[v], weights, load(&x[v])));
        }
    }
    sum(acc)
}

/// Expands a stored row.
#[inline(always)]
pub(super) fn expand<Q: Quantized<B>, const B: usize>(row: &[u8], out: &mut [f32]) {
    for (block, out) in row.as_chunks::<B>().0.iter().zip(out.as_chunks_mut::<32>().0) {
        let mut block = Q::new(block);
        for half in out.as_chunks_mut::<16>().0 {
            let (out, _) = half.as_chunks_mut::<4>();
            block.next(|v, weights| store(&mut out[v], weights));
        }
    }
}

/// Calls `visit` with 16 unsigned bytes as four vectors of floats.
#[inline(always)]
pub(super) fn unsigned_bytes(bytes: v128, mut visit: impl FnMut(usize, v128)) {
    let (low, high) = (u16x8_extend_low_u8x16(bytes), u16x8_extend_high_u8x16(bytes));
    visit(0, f32x4_convert_i32x4(u32x4_extend_low_u16x8(low)));
    visit(1, f32x4_convert_i32x4(u32x4_extend_high_u16x8(low)));
    visit(2, f32x4_convert_i32x4(u32x4_extend_low_u16x8(high)));
    visit(3, f32x4_convert_i32x4(u32x4_extend_high_u16x8(high)));
}

/// Calls `visit` with 16 signed bytes as four vectors of floats.
#[inline(always)]
pub(super) fn signed_bytes(bytes: v128, mut visit: impl FnMut(usize, v128)) {
    let (low, high) = (i16x8_extend_low_i8x16(bytes), i16x8_extend_high_i8x16(bytes));
    visit(0, f32x4_convert_i32x4(i32x4_extend_low_i16x8(low)));
    visit(1, f32x4_convert_i32x4(i32x4_extend_high_i16x8(low)));
    visit(2, f32x4_convert_i32x4(i32x4_extend_low_i16x8(high)));
    visit(3, f32x4_convert_i32x4(i32x4_extend_high_i16x8(high)));
}

/// The lower four bits of each byte; the upper ones move there, for the next time.
#[inline(always)]
pub(super) fn next_nibbles(bytes: &mut v128) -> v128 {
    let low = v128_and(*bytes, u8x16_splat(0x0f));
    *bytes = u16x8_shr(*bytes, 4);
    low
}

/// The lower four bits of each byte, and the upper four.
#[inline(always)]
pub(super) fn nibbles(bytes: v128) -> [v128; 2] {
    let low = u8x16_splat(0x0f);
    [v128_and(bytes, low), v128_and(u16x8_shr(bytes, 4), low)]
}

/// 32 values of five bits each: the fifth bits, then the lower four of two values in a byte.
/// `powers` are 1, 2, 4 to 128, twice.
#[inline(always)]
pub(super) fn five_bits(block: &[u8; 20], powers: v128) -> [v128; UNSIGNED] {
    let fifth = load_bytes(part::<0, 16, _, 20>(block));
    let [low, high] = nibbles(load_bytes(part::<4, 16, _, 20>(block)));
    let add = |nibbles, bytes| {
        let set = i8x16_eq(v128_and(bytes, powers), powers);
        v128_or(nibbles, v128_and(set, u8x16_splat(16)))
    };
    let first = i8x16_shuffle::<0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 1, 1, 1, 1>(fifth, fifth);
    let last = i8x16_shuffle::<2, 2, 2, 2, 2, 2, 2, 2, 3, 3, 3, 3, 3, 3, 3, 3>(fifth, fifth);
    product::values([add(low, first), add(high, last)])
}

/// Bytes that are 1, 2, 4 to 128.
pub(super) const POWERS: u64 = 0x8040_2010_0804_0201;

/// The lower 16 bits of a vector as 16 bytes of all ones or zero.
#[inline(always)]
pub(super) fn bits(lowest: v128) -> v128 {
    let one = u64x2_splat(POWERS);
    let bytes = i8x16_shuffle::<0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 1, 1, 1, 1>(lowest, lowest);
    i8x16_eq(v128_and(bytes, one), one)
}

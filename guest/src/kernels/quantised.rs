//! Types that store blocks of 32 weights, in `B` bytes with their scales.

use super::{multiply_add, sum};
use crate::simd::*;

/// A type of which 32 weights take `B` bytes.
pub(super) trait Quantised<const B: usize> {
    /// Calls `visit(v, weights)` for the eight vectors of a block.
    ///
    /// It may change their order, but not of those that are equal mod 4.
    fn each_vector(block: &[u8; B], visit: impl FnMut(usize, v128));
}

/// The product of a stored row with `x`, in the one order.
///
/// One block is one turn of the loop on purpose. LLVM takes WebAssembly to have registers
/// without end: it would sort the operations of several blocks by accumulator, and the
/// engine would have to spill all that they need.
#[inline(always)]
pub(super) fn dot<Q: Quantised<B>, const B: usize>(row: &[u8], x: &[f32]) -> f32 {
    let mut acc = [ZERO; 4];
    for (block, x) in row.as_chunks::<B>().0.iter().zip(x.as_chunks::<32>().0) {
        let (x, _) = x.as_chunks::<4>();
        Q::each_vector(block, |v, weights| {
            acc[v % 4] = multiply_add(acc[v % 4], weights, load(&x[v]));
        });
    }
    sum(acc)
}

/// Expands a stored row.
#[inline(always)]
pub(super) fn expand<Q: Quantised<B>, const B: usize>(row: &[u8], out: &mut [f32]) {
    for (block, out) in row.as_chunks::<B>().0.iter().zip(out.as_chunks_mut::<32>().0) {
        let (out, _) = out.as_chunks_mut::<4>();
        Q::each_vector(block, |v, weights| store(&mut out[v], weights));
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

/// Makes a [`Format`](super::Format) of a quantised type.
macro_rules! quantised_format {
    ($name:ident) => {
        impl super::Format for $name {
            #[inline(never)]
            fn expand(row: &[u8], out: &mut [f32]) {
                super::quantised::expand::<Self, BYTES>(row, out);
            }
            #[inline(always)]
            fn dot(row: &[u8], x: &[f32]) -> f32 {
                super::quantised::dot::<Self, BYTES>(row, x)
            }
        }
    };
}
pub(super) use quantised_format;

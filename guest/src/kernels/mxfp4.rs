//! 4-bit floats times a power of two.

use super::blocks::{Blocks, quantized_format};
use super::product::{self, FiveBits, UNSIGNED};
use super::quantized::{Quantized, next_nibbles, nibbles, signed_bytes};
use crate::simd::*;

/// Bytes of a block: the exponent of the scale, then 16 bytes of two floats each.
pub(super) const BYTES: usize = 17;

/// Two times the floats (ggml's `kvalues_mxfp4`).
const VALUES: v128 = i8x16(0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12);
/// The same plus 12.
const UNSIGNED_VALUES: v128 = i8x16(12, 13, 14, 15, 16, 18, 20, 24, 12, 11, 10, 9, 8, 6, 4, 0);

/// The type `MXFP4`.
pub(super) struct MXFP4 {
    scale: v128,
    bytes: v128,
}

impl Quantized<BYTES> for MXFP4 {
    #[inline(always)]
    fn new(block: &[u8; BYTES]) -> Self {
        Self {
            scale: powers_of_two(u32x4_splat(block[0].into())),
            bytes: load_bytes(part::<1, 16, _, BYTES>(block)),
        }
    }

    #[inline(always)]
    fn next(&mut self, mut visit: impl FnMut(usize, v128)) {
        let values = i8x16_swizzle(VALUES, next_nibbles(&mut self.bytes));
        signed_bytes(values, |v, q| visit(v, f32x4_mul(q, self.scale)));
    }
}

impl Blocks<BYTES, UNSIGNED> for MXFP4 {
    type Product = FiveBits;
    const OFFSET: i32 = 12;
    const MINIMUM: bool = false;

    #[inline(always)]
    fn values(block: &[u8; BYTES], _powers: v128) -> [v128; UNSIGNED] {
        let numbers = nibbles(load_bytes(part::<1, 16, _, BYTES>(block)));
        product::values(numbers.map(|numbers| i8x16_swizzle(UNSIGNED_VALUES, numbers)))
    }

    #[inline(always)]
    fn scale(block: &[u8; BYTES]) -> u32 {
        block[0].into()
    }

    #[inline(always)]
    fn scales(stored: v128) -> v128 {
        powers_of_two(stored)
    }
}

/// Two to the power of each number from 0 to 255, less 128: of these floats, 0 and 1 make
/// subnormal ones.
#[inline(always)]
fn powers_of_two(exponents: v128) -> v128 {
    let normal = i32x4_shl(i32x4_sub(exponents, u32x4_splat(1)), 23);
    let is_zero = i32x4_eq(exponents, ZERO);
    let subnormal = i32x4_sub(u32x4_splat(1 << 22), v128_and(is_zero, u32x4_splat(1 << 21)));
    // Bits of normal floats are larger than these, and those for 0 and 1 negative or zero.
    i32x4_max(normal, subnormal)
}

quantized_format!(MXFP4, Unsigned);

//! 4-bit values minus 8, times a scale.

use super::f16;
use super::quantised::{Quantised, first_half, nibbles, quantised_format, signed_bytes};
use crate::simd::*;

/// Bytes of a block: the scale, then 16 bytes of two values each.
pub(super) const BYTES: usize = 18;

/// The type `Q4_0`.
pub(super) struct Q4_0;

impl Quantised<BYTES> for Q4_0 {
    #[inline(always)]
    fn scales([a, b, c, d]: [&[u8; BYTES]; 4]) -> [v128; 2] {
        let halves = i32x4(first_half(a), first_half(b), first_half(c), first_half(d));
        [f16::from_bits(halves), ZERO]
    }

    #[inline(always)]
    fn each_vector(block: &[u8; BYTES], [scale, _]: [v128; 2], mut visit: impl FnMut(usize, v128)) {
        let (low, high) = nibbles(part::<2, 16, _, BYTES>(block));
        let mut visit = |v, q| visit(v, f32x4_mul(q, scale));
        signed_bytes(i8x16_sub(low, i8x16_splat(8)), 0, &mut visit);
        signed_bytes(i8x16_sub(high, i8x16_splat(8)), 4, &mut visit);
    }
}

quantised_format!(Q4_0);

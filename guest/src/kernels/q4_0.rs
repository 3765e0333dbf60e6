//! 4-bit values minus 8, times a scale.

use super::f16;
use super::quantised::{Quantised, nibbles, quantised_format, signed_bytes};
use crate::simd::*;

/// Bytes of a block: the scale, then 16 bytes of two values each.
pub(super) const BYTES: usize = 18;

/// The type `Q4_0`.
pub(super) struct Q4_0;

impl Quantised<BYTES> for Q4_0 {
    #[inline(always)]
    fn each_vector(block: &[u8; BYTES], mut visit: impl FnMut(usize, v128)) {
        let scale = f16::from_upper_bits(splat_16(part::<0, 2, _, BYTES>(block)));
        let (low, high) = nibbles(part::<2, 16, _, BYTES>(block));
        let mut visit = |v, q| visit(v, f32x4_mul(q, scale));
        signed_bytes(i8x16_sub(low, i8x16_splat(8)), 0, &mut visit);
        signed_bytes(i8x16_sub(high, i8x16_splat(8)), 4, &mut visit);
    }
}

quantised_format!(Q4_0);

//! 4-bit values times a scale, plus a minimum.

use super::f16;
use super::quantised::{Quantised, nibbles, quantised_format, unsigned_bytes};
use crate::simd::*;

/// Bytes of a block: scale and minimum, then 16 bytes of two values each.
pub(super) const BYTES: usize = 20;

/// The type `Q4_1`.
pub(super) struct Q4_1;

impl Quantised<BYTES> for Q4_1 {
    #[inline(always)]
    fn each_vector(block: &[u8; BYTES], mut visit: impl FnMut(usize, v128)) {
        let both = splat_32(part::<0, 4, _, BYTES>(block));
        let scale = f16::from_upper_bits(i32x4_shl(both, 16));
        let minimum = f16::from_upper_bits(both);
        let (low, high) = nibbles(part::<4, 16, _, BYTES>(block));
        let mut visit = |v, q| visit(v, f32x4_add(f32x4_mul(q, scale), minimum));
        unsigned_bytes(low, 0, &mut visit);
        unsigned_bytes(high, 4, &mut visit);
    }
}

quantised_format!(Q4_1);

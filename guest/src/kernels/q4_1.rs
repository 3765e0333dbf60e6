//! 4-bit values times a scale, plus a minimum.

use super::f16;
use super::quantised::{Quantised, next_nibbles, quantised_format, unsigned_bytes};
use crate::simd::*;

/// Bytes of a block: scale and minimum, then 16 bytes of two values each.
pub(super) const BYTES: usize = 20;

/// The type `Q4_1`.
pub(super) struct Q4_1 {
    scale: v128,
    minimum: v128,
    bytes: v128,
}

impl Quantised<BYTES> for Q4_1 {
    #[inline(always)]
    fn new(block: &[u8; BYTES]) -> Self {
        let both = splat_32(part::<0, 4, _, BYTES>(block));
        Self {
            scale: f16::from_upper_bits(i32x4_shl(both, 16)),
            minimum: f16::from_upper_bits(both),
            bytes: load_bytes(part::<4, 16, _, BYTES>(block)),
        }
    }

    #[inline(always)]
    fn next(&mut self, mut visit: impl FnMut(usize, v128)) {
        let values = next_nibbles(&mut self.bytes);
        let weight = |q| f32x4_add(f32x4_mul(q, self.scale), self.minimum);
        unsigned_bytes(values, |v, q| visit(v, weight(q)));
    }
}

quantised_format!(Q4_1);

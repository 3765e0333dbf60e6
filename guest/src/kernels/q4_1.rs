//! 4-bit values times a scale, plus a minimum.

use super::blocks::{Blocks, quantized_format};
use super::halves;
use super::product::{self, FourBits, UNSIGNED};
use super::quantized::{Quantized, next_nibbles, nibbles, unsigned_bytes};
use crate::simd::*;

/// Bytes of a block: scale and minimum, then 16 bytes of two values each.
pub(super) const BYTES: usize = 20;

/// The type `Q4_1`.
pub(super) struct Q4_1 {
    scale: v128,
    minimum: v128,
    bytes: v128,
}

impl Quantized<BYTES> for Q4_1 {
    #[inline(always)]
    fn new(block: &[u8; BYTES]) -> Self {
        let both = splat_32(part::<0, 4, _, BYTES>(block));
        Self {
            scale: halves::from_upper_bits(i32x4_shl(both, 16)),
            minimum: halves::from_upper_bits(both),
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

impl Blocks<BYTES, UNSIGNED> for Q4_1 {
    type Product = FourBits;
    const OFFSET: i32 = 0;
    const MINIMUM: bool = true;

    #[inline(always)]
    fn values(block: &[u8; BYTES], _powers: v128) -> [v128; UNSIGNED] {
        let bytes = load_bytes(part::<4, 16, _, BYTES>(block));
        product::values(nibbles(bytes))
    }

    #[inline(always)]
    fn scale(block: &[u8; BYTES]) -> u32 {
        u32::from_le_bytes(*part::<0, 4, _, BYTES>(block))
    }
}

quantized_format!(Q4_1, Unsigned);

//! 5-bit values times a scale, plus a minimum.

use super::blocks::{Blocks, quantized_format};
use super::halves;
use super::product::{FiveBits, UNSIGNED};
use super::quantized::{Quantized, bits, five_bits, next_nibbles, unsigned_bytes};
use crate::simd::*;

/// Bytes of a block (ggml's `block_q5_1`): scale and minimum, 32 fifth bits, then 16 bytes
/// of the lower bits of two values each.
pub(super) const BYTES: usize = 24;

/// The type `Q5_1`.
pub(super) struct Q5_1 {
    scale: v128,
    minimum: v128,
    fifth: v128,
    bytes: v128,
}

impl Quantized<BYTES> for Q5_1 {
    #[inline(always)]
    fn new(block: &[u8; BYTES]) -> Self {
        let both = splat_32(part::<0, 4, _, BYTES>(block));
        Self {
            scale: halves::from_upper_bits(i32x4_shl(both, 16)),
            minimum: halves::from_upper_bits(both),
            fifth: splat_32(part::<4, 4, _, BYTES>(block)),
            bytes: load_bytes(part::<8, 16, _, BYTES>(block)),
        }
    }

    #[inline(always)]
    fn next(&mut self, mut visit: impl FnMut(usize, v128)) {
        let fifth = v128_and(bits(self.fifth), u8x16_splat(16));
        self.fifth = u32x4_shr(self.fifth, 16);
        let values = v128_or(next_nibbles(&mut self.bytes), fifth);
        let weight = |q| f32x4_add(f32x4_mul(q, self.scale), self.minimum);
        unsigned_bytes(values, |v, q| visit(v, weight(q)));
    }
}

impl Blocks<BYTES, UNSIGNED> for Q5_1 {
    type Product = FiveBits;
    const OFFSET: i32 = 0;
    const MINIMUM: bool = true;

    #[inline(always)]
    fn values(block: &[u8; BYTES], powers: v128) -> [v128; UNSIGNED] {
        five_bits(part::<4, 20, _, BYTES>(block), powers)
    }

    #[inline(always)]
    fn scale(block: &[u8; BYTES]) -> u32 {
        u32::from_le_bytes(*part::<0, 4, _, BYTES>(block))
    }
}

quantized_format!(Q5_1, Unsigned);

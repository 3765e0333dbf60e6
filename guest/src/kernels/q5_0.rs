//! 5-bit values minus 16, times a scale.

use super::blocks::{Blocks, quantized_format};
use super::halves;
use super::product::{FiveBits, UNSIGNED};
use super::quantized::{Quantized, bits, five_bits, next_nibbles, signed_bytes};
use crate::simd::*;

/// Bytes of a block (ggml's `block_q5_0`): the scale, 32 fifth bits, then 16 bytes of the
/// lower bits of two values each.
pub(super) const BYTES: usize = 22;

/// The type `Q5_0`.
pub(super) struct Q5_0 {
    scale: v128,
    fifth: v128,
    bytes: v128,
}

impl Quantized<BYTES> for Q5_0 {
    #[inline(always)]
    fn new(block: &[u8; BYTES]) -> Self {
        Self {
            scale: halves::from_upper_bits(splat_16(part::<0, 2, _, BYTES>(block))),
            fifth: splat_32(part::<2, 4, _, BYTES>(block)),
            bytes: load_bytes(part::<6, 16, _, BYTES>(block)),
        }
    }

    #[inline(always)]
    fn next(&mut self, mut visit: impl FnMut(usize, v128)) {
        let fifth = v128_and(bits(self.fifth), u8x16_splat(16));
        self.fifth = u32x4_shr(self.fifth, 16);
        let values = v128_or(next_nibbles(&mut self.bytes), fifth);
        let values = i8x16_sub(values, i8x16_splat(16));
        signed_bytes(values, |v, q| visit(v, f32x4_mul(q, self.scale)));
    }
}

impl Blocks<BYTES, UNSIGNED> for Q5_0 {
    type Product = FiveBits;
    const OFFSET: i32 = 16;
    const MINIMUM: bool = false;

    #[inline(always)]
    fn values(block: &[u8; BYTES], powers: v128) -> [v128; UNSIGNED] {
        five_bits(part::<2, 20, _, BYTES>(block), powers)
    }

    #[inline(always)]
    fn scale(block: &[u8; BYTES]) -> u32 {
        u16::from_le_bytes(*part::<0, 2, _, BYTES>(block)).into()
    }
}

quantized_format!(Q5_0, Unsigned);

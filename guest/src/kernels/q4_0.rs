//! 4-bit values minus 8, times a scale.

use super::blocks::{Blocks, quantized_format};
use super::halves;
use super::product::{self, FourBits, UNSIGNED};
use super::quantized::{Quantized, next_nibbles, nibbles, signed_bytes};
use crate::simd::*;

/// Bytes of a block: the scale, then 16 bytes of two values each.
pub(super) const BYTES: usize = 18;

/// The type `Q4_0`.
pub(super) struct Q4_0 {
    scale: v128,
    bytes: v128,
}

impl Quantized<BYTES> for Q4_0 {
    #[inline(always)]
    fn new(block: &[u8; BYTES]) -> Self {
        Self {
            scale: halves::from_upper_bits(splat_16(part::<0, 2, _, BYTES>(block))),
            bytes: load_bytes(part::<2, 16, _, BYTES>(block)),
        }
    }

    #[inline(always)]
    fn next(&mut self, mut visit: impl FnMut(usize, v128)) {
        let values = i8x16_sub(next_nibbles(&mut self.bytes), i8x16_splat(8));
        signed_bytes(values, |v, q| visit(v, f32x4_mul(q, self.scale)));
    }
}

impl Blocks<BYTES, UNSIGNED> for Q4_0 {
    type Product = FourBits;
    const OFFSET: i32 = 8;
    const MINIMUM: bool = false;

    #[inline(always)]
    fn values(block: &[u8; BYTES], _powers: v128) -> [v128; UNSIGNED] {
        let bytes = load_bytes(part::<2, 16, _, BYTES>(block));
        product::values(nibbles(bytes))
    }

    #[inline(always)]
    fn scale(block: &[u8; BYTES]) -> u32 {
        u16::from_le_bytes(*part::<0, 2, _, BYTES>(block)).into()
    }
}

quantized_format!(Q4_0, Unsigned);

//! 4-bit numbers of 16 values that are not evenly spaced, times a scale.

use super::blocks::{Blocks, quantized_format};
use super::halves;
use super::product::Bytes;
use super::quantized::{Quantized, next_nibbles, nibbles, signed_bytes};
use crate::simd::*;

/// Bytes of a block: the scale, then 16 bytes of two numbers each.
pub(super) const BYTES: usize = 18;

/// The values (ggml's `kvalues_iq4nl`).
pub(super) const VALUES: v128 =
    i8x16(-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113);

/// The type `IQ4_NL`.
#[allow(non_camel_case_types, reason = "this is ggml's name")]
pub(super) struct IQ4_NL {
    scale: v128,
    bytes: v128,
}

impl Quantized<BYTES> for IQ4_NL {
    #[inline(always)]
    fn new(block: &[u8; BYTES]) -> Self {
        Self {
            scale: halves::from_upper_bits(splat_16(part::<0, 2, _, BYTES>(block))),
            bytes: load_bytes(part::<2, 16, _, BYTES>(block)),
        }
    }

    #[inline(always)]
    fn next(&mut self, mut visit: impl FnMut(usize, v128)) {
        let values = i8x16_swizzle(VALUES, next_nibbles(&mut self.bytes));
        signed_bytes(values, |v, q| visit(v, f32x4_mul(q, self.scale)));
    }
}

impl Blocks<BYTES, 4> for IQ4_NL {
    type Product = Bytes;
    const OFFSET: i32 = 0;
    const MINIMUM: bool = false;

    #[inline(always)]
    fn values(block: &[u8; BYTES], _powers: v128) -> [v128; 4] {
        let numbers = nibbles(load_bytes(part::<2, 16, _, BYTES>(block)));
        let [a, b] = numbers.map(|numbers| i8x16_swizzle(VALUES, numbers));
        [
            i16x8_extend_low_i8x16(a),
            i16x8_extend_high_i8x16(a),
            i16x8_extend_low_i8x16(b),
            i16x8_extend_high_i8x16(b),
        ]
    }

    #[inline(always)]
    fn scale(block: &[u8; BYTES]) -> u32 {
        u16::from_le_bytes(*part::<0, 2, _, BYTES>(block)).into()
    }
}

quantized_format!(IQ4_NL, Signed);

//! Signed 8-bit values times a scale.

use super::blocks::{Blocks, quantized_format};
use super::halves;
use super::product::Bytes;
use super::quantized::{Quantized, signed_bytes};
use crate::simd::*;

/// Bytes of a block: the scale, then the values.
pub(super) const BYTES: usize = 34;

/// The type `Q8_0`.
pub(super) struct Q8_0 {
    scale: v128,
    bytes: v128,
    last: v128,
}

impl Quantized<BYTES> for Q8_0 {
    #[inline(always)]
    fn new(block: &[u8; BYTES]) -> Self {
        Self {
            scale: halves::from_upper_bits(splat_16(part::<0, 2, _, BYTES>(block))),
            bytes: load_bytes(part::<2, 16, _, BYTES>(block)),
            last: load_bytes(part::<18, 16, _, BYTES>(block)),
        }
    }

    #[inline(always)]
    fn next(&mut self, mut visit: impl FnMut(usize, v128)) {
        signed_bytes(self.bytes, |v, q| visit(v, f32x4_mul(q, self.scale)));
        self.bytes = self.last;
    }
}

impl Blocks<BYTES, 4> for Q8_0 {
    type Product = Bytes;
    const OFFSET: i32 = 0;
    const MINIMUM: bool = false;

    #[inline(always)]
    fn values(block: &[u8; BYTES], _powers: v128) -> [v128; 4] {
        let eight = |i: usize| load_i8x8(&part::<2, 32, _, BYTES>(block).as_chunks::<8>().0[i]);
        [eight(0), eight(1), eight(2), eight(3)]
    }

    #[inline(always)]
    fn scale(block: &[u8; BYTES]) -> u32 {
        u16::from_le_bytes(*part::<0, 2, _, BYTES>(block)).into()
    }
}

quantized_format!(Q8_0, Signed);

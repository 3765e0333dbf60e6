//! Values of -1 to 2 in 2 bits times a scale.

use super::decoded::{Decode, Decoded, decoded_format};
use super::superblock::factor;
use crate::simd::*;

/// Bytes of a superblock (ggml's `block_tq2_0`): 64 bytes of four values each, plus one, and the
/// scale.
pub(super) const BYTES: usize = 66;

/// The type `TQ2_0`.
#[allow(non_camel_case_types, reason = "this is ggml's name")]
pub(super) struct TQ2_0;

impl Decode<BYTES> for TQ2_0 {
    #[inline(never)]
    fn decode(block: &[u8; BYTES], to: &mut Decoded) {
        // 32 bytes hold the lowest bits of two groups, then the next bits of the next two.
        for group in 0..16 {
            let bytes = sixteen(part::<0, 64, _, BYTES>(block), group >> 2 & 2 | group & 1);
            let value = v128_and(u16x8_shr(bytes, shift(group & 6)), u8x16_splat(3));
            to.set(group, i8x16_sub(value, i8x16_splat(1)));
        }
        to.set_scales(factor(part::<64, 2, _, BYTES>(block)), [i16x8_splat(1); 2]);
    }
}

decoded_format!(TQ2_0);

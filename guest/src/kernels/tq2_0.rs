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
        for (half, bytes) in part::<0, 64, _, BYTES>(block).as_chunks::<32>().0.iter().enumerate() {
            let mut two = [0, 1].map(|i| sixteen(bytes, i));
            for i in (8 * half..8 * half + 8).step_by(2) {
                let [a, b] = two.map(|bytes| v128_and(bytes, u8x16_splat(3)));
                to.set(i, i8x16_sub(a, i8x16_splat(1)));
                to.set(i + 1, i8x16_sub(b, i8x16_splat(1)));
                two = two.map(|bytes| u16x8_shr(bytes, 2));
            }
        }
        to.set_scales(factor(part::<64, 2, _, BYTES>(block)), [i16x8_splat(1); 2]);
    }
}

decoded_format!(TQ2_0);

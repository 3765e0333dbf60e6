//! 6-bit values minus 32 in groups with 8-bit scales.

use super::superblock::{Groups, Superblock, factor, superblock_format};
use crate::simd::*;

/// Bytes of a superblock (ggml's `block_q6_K`): 128 bytes of the lower four bits of two values
/// each, 64 bytes of the upper two bits of four values each, 16 scales, and their factor.
pub(super) const BYTES: usize = 210;

/// The type `Q6_K`.
#[allow(non_camel_case_types, reason = "this is ggml's name")]
pub(super) struct Q6_K;

impl Superblock<BYTES> for Q6_K {
    const OFFSET: i8 = 32;
    const MINIMUM: bool = false;

    #[inline(always)]
    fn groups(block: &[u8; BYTES]) -> Groups {
        let scales = load_bytes(part::<192, 16, _, BYTES>(block));
        let scales = [i16x8_extend_low_i8x16(scales), i16x8_extend_high_i8x16(scales)];
        let d = factor(part::<208, 2, _, BYTES>(block));
        Groups { d, d_min: ZERO, scales, minima: [ZERO; 2] }
    }

    /// Eight groups are in 64 bytes of lower bits (first four groups, then upper halves) and in
    /// 32 bytes of upper bits (two groups, then the next two bits).
    #[inline(always)]
    fn values(block: &[u8; BYTES], group: usize) -> v128 {
        let low = sixteen(part::<0, 128, _, BYTES>(block), group >> 1 & 4 | group & 3);
        let low = v128_and(u16x8_shr(low, shift(group & 4)), u8x16_splat(15));
        let high = sixteen(part::<128, 64, _, BYTES>(block), group >> 2 & 2 | group & 1);
        let high = v128_and(u16x8_shr(high, shift(group & 6)), u8x16_splat(3));
        v128_or(low, i16x8_shl(high, 4))
    }
}

superblock_format!(Q6_K);

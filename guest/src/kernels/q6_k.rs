//! 6-bit values minus 32 in groups with 8-bit scales.

use super::product::Values;
use super::superblock::{Groups, Superblock, factor};
use super::superblocks::superblock_format;
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
    const VALUES: Values = Values::Large;

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

    #[inline(always)]
    fn four_groups(block: &[u8; BYTES], four: usize) -> [v128; 4] {
        let half = four >> 1 & 1;
        let low = &part::<0, 128, _, BYTES>(block).as_chunks::<64>().0[half];
        let high = &part::<128, 64, _, BYTES>(block).as_chunks::<32>().0[half];
        let shift = shift(4 * (four & 1));
        let [e, f] = [0, 1].map(|i| u16x8_shr(sixteen(high, i), shift));
        let value = |i: usize, high, up| {
            let low = v128_and(u16x8_shr(sixteen(low, i), shift), u8x16_splat(15));
            v128_or(low, v128_and(i16x8_shl(high, up), u8x16_splat(0x30)))
        };
        [value(0, e, 4), value(1, f, 4), value(2, e, 2), value(3, f, 2)]
    }
}

superblock_format!(Q6_K);

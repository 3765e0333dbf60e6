//! Values of `IQ4_NL` in groups of 32 with 6-bit scales.

use super::iq4_nl;
use super::product::Values;
use super::quantized::nibbles;
use super::superblock::{Groups, Superblock, factor, widen};
use super::superblocks::superblock_format;
use crate::simd::*;

/// Bytes of a superblock (ggml's `block_iq4_xs`): the factor of scales, 2 bytes of their upper
/// two bits, 4 bytes of the lower four, and 128 bytes of two numbers of values each.
pub(super) const BYTES: usize = 136;

/// The type `IQ4_XS`.
#[allow(non_camel_case_types, reason = "this is ggml's name")]
pub(super) struct IQ4_XS;

impl Superblock<BYTES> for IQ4_XS {
    const OFFSET: i8 = 0;
    const MINIMUM: bool = false;
    const VALUES: Values = Values::Signed;

    #[inline(always)]
    fn groups(block: &[u8; BYTES]) -> Groups {
        let [a, b] = *part::<2, 2, _, BYTES>(block);
        let lower = u32::from_le_bytes(*part::<4, 4, _, BYTES>(block));
        // Four bits in each byte: the upper bits of two groups.
        let upper = u32::from(a) | u32::from(b) << 16;
        let upper = (upper | upper << 4) & 0x0f0f_0f0f;
        let even = lower & 0x0f0f_0f0f | upper << 4 & 0x3030_3030;
        let odd = lower >> 4 & 0x0f0f_0f0f | upper << 2 & 0x3030_3030;
        let scales = u32x4(even, odd, 0, 0);
        // Groups of 16 share theirs in pairs.
        let scales =
            i8x16_shuffle::<0, 0, 4, 4, 1, 1, 5, 5, 2, 2, 6, 6, 3, 3, 7, 7>(scales, scales);
        Groups {
            d: factor(part::<0, 2, _, BYTES>(block)),
            d_min: ZERO,
            scales: widen(scales).map(|scales| i16x8_sub(scales, i16x8_splat(32))),
            minima: [ZERO; 2],
        }
    }

    /// 16 bytes hold a group in their lower bits and the next one in their upper bits.
    #[inline(always)]
    fn values(block: &[u8; BYTES], group: usize) -> v128 {
        let bytes = sixteen(part::<8, 128, _, BYTES>(block), group >> 1 & 7);
        let bytes = u16x8_shr(bytes, shift(4 * (group & 1)));
        i8x16_swizzle(iq4_nl::VALUES, v128_and(bytes, u8x16_splat(15)))
    }

    #[inline(always)]
    fn four_groups(block: &[u8; BYTES], four: usize) -> [v128; 4] {
        let bytes = &part::<8, 128, _, BYTES>(block).as_chunks::<32>().0[four & 3];
        let [[a, b], [c, d]] = [0, 1].map(|i| nibbles(sixteen(bytes, i)));
        [a, b, c, d].map(|numbers| i8x16_swizzle(iq4_nl::VALUES, numbers))
    }
}

superblock_format!(IQ4_XS);

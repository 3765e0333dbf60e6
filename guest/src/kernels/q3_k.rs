//! 3-bit values minus 4 in groups with 6-bit scales.

use super::product::Values;
use super::superblock::{Groups, Superblock, factor, widen};
use super::superblocks::superblock_format;
use crate::simd::*;

/// Bytes of a superblock (ggml's `block_q3_K`): 32 bytes of third bits, 64 bytes of the lower
/// bits of four values each, 12 bytes of scales, and their factor.
pub(super) const BYTES: usize = 110;

/// The type `Q3_K`.
#[allow(non_camel_case_types, reason = "this is ggml's name")]
pub(super) struct Q3_K;

impl Superblock<BYTES> for Q3_K {
    const OFFSET: i8 = 4;
    const MINIMUM: bool = false;
    const VALUES: Values = Values::Small;

    #[inline(always)]
    fn groups(block: &[u8; BYTES]) -> Groups {
        let packed = words(part::<96, 12, _, BYTES>(block));
        let scales = widen(scales(packed)).map(|scales| i16x8_sub(scales, i16x8_splat(32)));
        let d = factor(part::<108, 2, _, BYTES>(block));
        Groups { d, d_min: ZERO, scales, minima: [ZERO; 2] }
    }

    /// The lower bits are stored as in `Q2_K`; bit `n` of the first 32 bytes is the third bit
    /// of groups `2 * n` and `2 * n + 1`.
    #[inline(always)]
    fn values(block: &[u8; BYTES], group: usize) -> v128 {
        let low = sixteen(part::<32, 64, _, BYTES>(block), group >> 2 & 2 | group & 1);
        let low = v128_and(u16x8_shr(low, shift(group & 6)), u8x16_splat(3));
        let third = sixteen(part::<0, 32, _, BYTES>(block), group & 1);
        let third = v128_and(u16x8_shr(third, shift(group >> 1 & 7)), u8x16_splat(1));
        v128_or(low, i16x8_shl(third, 2))
    }

    #[inline(always)]
    fn four_groups(block: &[u8; BYTES], four: usize) -> [v128; 4] {
        let bytes = &part::<32, 64, _, BYTES>(block).as_chunks::<32>().0[four >> 1 & 1];
        let thirds = part::<0, 32, _, BYTES>(block);
        let (two, one) = (u8x16_splat(3), u8x16_splat(4));
        let half = |i: usize| {
            let low = u16x8_shr(sixteen(bytes, i), shift(4 * (four & 1)));
            let third = u16x8_shr(sixteen(thirds, i), shift(2 * (four & 3)));
            let first = v128_or(v128_and(low, two), v128_and(i16x8_shl(third, 2), one));
            let low = v128_and(u16x8_shr(low, 2), two);
            [first, v128_or(low, v128_and(i16x8_shl(third, 1), one))]
        };
        let ([a, c], [b, d]) = (half(0), half(1));
        [a, b, c, d]
    }
}

/// The lower four bits of 16 scales are in the first two words, their upper two bits in the
/// third one.
#[inline(always)]
fn scales([a, b, upper]: [u32; 3]) -> v128 {
    let scale = |low: u32, high: u32| low & 0x0f0f_0f0f | (high & 0x0303_0303) << 4;
    u32x4(
        scale(a, upper),
        scale(b, upper >> 2),
        scale(a >> 4, upper >> 4),
        scale(b >> 4, upper >> 6),
    )
}

superblock_format!(Q3_K);

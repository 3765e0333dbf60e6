//! 4-bit values in groups of 32 with 6-bit scales and minima.

use super::product::Values;
use super::superblock::{Groups, Superblock, factor, widen};
use super::superblocks::superblock_format;
use crate::simd::*;

/// Bytes of a superblock (ggml's `block_q4_K`): the factors of scales and of minima, 12 bytes
/// of both, and 128 bytes of two values each.
pub(super) const BYTES: usize = 144;

/// The type `Q4_K`.
#[allow(non_camel_case_types, reason = "this is ggml's name")]
pub(super) struct Q4_K;

impl Superblock<BYTES> for Q4_K {
    const OFFSET: i8 = 0;
    const MINIMUM: bool = true;
    const VALUES: Values = Values::Shared;

    #[inline(always)]
    fn groups(block: &[u8; BYTES]) -> Groups {
        groups(part::<0, 16, _, BYTES>(block))
    }

    #[inline(always)]
    fn values(block: &[u8; BYTES], group: usize) -> v128 {
        nibbles(part::<16, 128, _, BYTES>(block), group)
    }

    #[inline(always)]
    fn four_groups(block: &[u8; BYTES], four: usize) -> [v128; 4] {
        four_nibbles(part::<16, 128, _, BYTES>(block), four)
    }
}

/// The factors, scales and minima with which a superblock of `Q4_K` or `Q5_K` begins.
#[inline(always)]
pub(super) fn groups(head: &[u8; 16]) -> Groups {
    let [a, b, c] = words(part::<4, 12, _, 16>(head));
    let low = |word: u32| word & 0x3f3f_3f3f;
    // The lower bits of the last four are in the third word, the upper two in the first ones.
    let high = |low: u32, high: u32| low & 0x0f0f_0f0f | (high >> 6 & 0x0303_0303) << 4;
    let both = u32x4(low(a), high(c, a), low(b), high(c >> 4, b));
    // Groups of 16 share theirs in pairs.
    let scales = i8x16_shuffle::<0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5, 6, 6, 7, 7>(both, both);
    let minima =
        i8x16_shuffle::<8, 8, 9, 9, 10, 10, 11, 11, 12, 12, 13, 13, 14, 14, 15, 15>(both, both);
    Groups {
        d: factor(part::<0, 2, _, 16>(head)),
        d_min: factor(part::<2, 2, _, 16>(head)),
        scales: widen(scales),
        minima: widen(minima),
    }
}

/// Four bits of each value of a group: 32 bytes hold two groups in their lower bits and the
/// next two in their upper bits.
#[inline(always)]
pub(super) fn nibbles(bytes: &[u8; 128], group: usize) -> v128 {
    let bytes = sixteen(bytes, group >> 1 & 6 | group & 1);
    v128_and(u16x8_shr(bytes, shift(2 * (group & 2))), u8x16_splat(15))
}

/// Four bits of each value of four groups, which are in the same 32 bytes.
#[inline(always)]
pub(super) fn four_nibbles(bytes: &[u8; 128], four: usize) -> [v128; 4] {
    let bytes = &bytes.as_chunks::<32>().0[four & 3];
    let (a, b, low) = (sixteen(bytes, 0), sixteen(bytes, 1), u8x16_splat(15));
    let high = |bytes| v128_and(u16x8_shr(bytes, 4), low);
    [v128_and(a, low), v128_and(b, low), high(a), high(b)]
}

superblock_format!(Q4_K);

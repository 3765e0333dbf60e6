//! 5-bit values in groups of 32 with 6-bit scales and minima.

use super::product::Values;
use super::q4_k::{four_nibbles, groups, nibbles};
use super::superblock::{Groups, Superblock};
use super::superblocks::superblock_format;
use crate::simd::*;

/// Bytes of a superblock (ggml's `block_q5_K`): the factors of scales and of minima, 12 bytes
/// of both, 32 bytes of fifth bits, and 128 bytes of the lower bits of two values each.
pub(super) const BYTES: usize = 176;

/// The type `Q5_K`.
#[allow(non_camel_case_types, reason = "this is ggml's name")]
pub(super) struct Q5_K;

impl Superblock<BYTES> for Q5_K {
    const OFFSET: i8 = 0;
    const MINIMUM: bool = true;
    const VALUES: Values = Values::Shared;

    #[inline(always)]
    fn groups(block: &[u8; BYTES]) -> Groups {
        groups(part::<0, 16, _, BYTES>(block))
    }

    /// Bit `n` of the 32 bytes is the fifth bit of groups `2 * n` and `2 * n + 1`.
    #[inline(always)]
    fn values(block: &[u8; BYTES], group: usize) -> v128 {
        let low = nibbles(part::<48, 128, _, BYTES>(block), group);
        let fifth = sixteen(part::<16, 32, _, BYTES>(block), group & 1);
        let fifth = v128_and(u16x8_shr(fifth, shift(group >> 1 & 7)), u8x16_splat(1));
        v128_or(low, i16x8_shl(fifth, 4))
    }

    #[inline(always)]
    fn four_groups(block: &[u8; BYTES], four: usize) -> [v128; 4] {
        let [a, b, c, d] = four_nibbles(part::<48, 128, _, BYTES>(block), four);
        let fifths = part::<16, 32, _, BYTES>(block);
        let [e, f] = [0, 1].map(|i| u16x8_shr(sixteen(fifths, i), shift(2 * (four & 3))));
        let with = |low, fifth, up| v128_or(low, v128_and(i16x8_shl(fifth, up), u8x16_splat(16)));
        [with(a, e, 4), with(b, f, 4), with(c, e, 3), with(d, f, 3)]
    }
}

superblock_format!(Q5_K);

//! 2-bit values in groups with 4-bit scales and minima.

use super::product::Values;
use super::superblock::{Groups, Superblock, factor, widen};
use super::superblocks::superblock_format;
use crate::simd::*;

/// Bytes of a superblock (ggml's `block_q2_K`): 16 bytes of a scale (lower bits) and a
/// minimum each, 64 bytes of four values each, and the factors of scales and of minima.
pub(super) const BYTES: usize = 84;

/// The type `Q2_K`.
#[allow(non_camel_case_types, reason = "this is ggml's name")]
pub(super) struct Q2_K;

impl Superblock<BYTES> for Q2_K {
    const OFFSET: i8 = 0;
    const MINIMUM: bool = true;
    const VALUES: Values = Values::Small;

    #[inline(always)]
    fn groups(block: &[u8; BYTES]) -> Groups {
        let both = load_bytes(part::<0, 16, _, BYTES>(block));
        Groups {
            d: factor(part::<80, 2, _, BYTES>(block)),
            d_min: factor(part::<82, 2, _, BYTES>(block)),
            scales: widen(v128_and(both, u8x16_splat(15))),
            minima: widen(u8x16_shr(both, 4)),
        }
    }

    /// 32 bytes hold the lowest bits of two groups, then the next bits of the next two.
    #[inline(always)]
    fn values(block: &[u8; BYTES], group: usize) -> v128 {
        let bytes = sixteen(part::<16, 64, _, BYTES>(block), group >> 2 & 2 | group & 1);
        v128_and(u16x8_shr(bytes, shift(group & 6)), u8x16_splat(3))
    }

    #[inline(always)]
    fn four_groups(block: &[u8; BYTES], four: usize) -> [v128; 4] {
        let bytes = &part::<16, 64, _, BYTES>(block).as_chunks::<32>().0[four >> 1 & 1];
        let (shift, low) = (shift(4 * (four & 1)), u8x16_splat(3));
        let [a, b] = [0, 1].map(|i| u16x8_shr(sixteen(bytes, i), shift));
        let next = |bytes| v128_and(u16x8_shr(bytes, 2), low);
        [v128_and(a, low), v128_and(b, low), next(a), next(b)]
    }
}

superblock_format!(Q2_K);

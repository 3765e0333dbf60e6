//! Entries of 2,048 with eight values each, an eighth up or down, and 3-bit scales of 16 weights.

use super::decoded::{Decode, Decoded, decoded_format, odd};
use super::grids;
use super::superblock::factor;
use crate::simd::*;

/// Bytes of a superblock (ggml's `block_iq1_m`): 32 bytes of the lower bits of numbers of entries,
/// 16 bytes of twice three upper bits and whether an eighth is taken from values or added to them,
/// and 8 bytes of four times four scales with four bits of their factor above them.
pub(super) const BYTES: usize = 56;

/// The type `IQ1_M`.
#[allow(non_camel_case_types, reason = "this is ggml's name")]
pub(super) struct IQ1_M;

/// Four 16-bit numbers.
#[inline(always)]
fn words_of(bytes: &[u8; 8]) -> [u16; 4] {
    let (words, _) = bytes.as_chunks::<2>();
    [0, 1, 2, 3].map(|i| u16::from_le_bytes(words[i]))
}

impl Decode<BYTES> for IQ1_M {
    #[inline(never)]
    fn decode(block: &[u8; BYTES], to: &mut Decoded) {
        let grid = grids::IQ1.entries();
        let (lower, _) = part::<0, 32, _, BYTES>(block).as_chunks::<2>();
        let upper = part::<32, 16, _, BYTES>(block);
        for (i, (lower, upper)) in lower.iter().zip(upper).enumerate() {
            let upper = usize::from(*upper);
            let entry = |i: usize| &grid[usize::from(lower[i]) | (upper >> (4 * i) & 7) << 8];
            let delta = |bit: usize| i8x16_splat(if upper >> bit & 1 == 0 { 1 } else { -1 });
            let deltas = i64x2_shuffle::<0, 2>(delta(3), delta(7));
            to.set(i, i8x16_add(load_two([entry(0), entry(1)]), deltas));
        }
        let [a, b, c, d] = words_of(part::<48, 8, _, BYTES>(block));
        let bits = a >> 12 | b >> 8 & 0xf0 | c >> 4 & 0xf00 | d & 0xf000;
        let eighth = f32x4_mul(factor(&bits.to_le_bytes()), f32x4_splat(0.125));
        let scales = [[a, b], [c, d]].map(|[a, b]| {
            let four = u16x8(a, a >> 3, a >> 6, a >> 9, b, b >> 3, b >> 6, b >> 9);
            odd(v128_and(four, u16x8_splat(7)))
        });
        to.set_scales(eighth, scales);
    }
}

decoded_format!(IQ1_M);

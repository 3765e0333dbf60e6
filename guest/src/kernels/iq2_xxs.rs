//! Entries of 256 with eight values each, signs of even number, and 4-bit scales.

use super::decoded::{Decode, Decoded, decoded_format, even_ones, odd, with_signs};
use super::grids;
use super::superblock::{factor, twice};
use crate::simd::*;

/// Bytes of a superblock (ggml's `block_iq2_xxs`): the factor of scales, then for each 32 weights
/// four numbers of entries, and four times seven signs with a scale above them.
pub(super) const BYTES: usize = 66;

/// The type `IQ2_XXS`.
#[allow(non_camel_case_types, reason = "this is ggml's name")]
pub(super) struct IQ2_XXS;

impl Decode<BYTES> for IQ2_XXS {
    #[inline(never)]
    fn decode(block: &[u8; BYTES], to: &mut Decoded) {
        let grid = grids::IQ2_XXS.entries();
        let mut scales = [0; 8];
        let (parts, _) = part::<2, 64, _, BYTES>(block).as_chunks::<8>();
        for (i, (part, scale)) in parts.iter().zip(&mut scales).enumerate() {
            let [a, b, c, d, rest @ ..] = *part;
            let rest = u32::from_le_bytes(rest);
            let [first, last] = even_ones(rest);
            let two = |a: u8, b: u8| load_two([&grid[usize::from(a)], &grid[usize::from(b)]]);
            to.set(2 * i, with_signs(two(a, b), first));
            to.set(2 * i + 1, with_signs(two(c, d), last));
            *scale = rest >> 28;
        }
        let d = f32x4_mul(factor(part::<0, 2, _, BYTES>(block)), f32x4_splat(0.125));
        to.set_scales(d, twice(odd(narrow_eight(&scales))));
    }
}

decoded_format!(IQ2_XXS);

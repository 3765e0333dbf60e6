//! Entries of 256 with four values each, signs of even number, and 4-bit scales.

use super::decoded::{Decode, Decoded, decoded_format, even_ones, odd, with_signs};
use super::grids;
use super::superblock::{factor, twice};
use crate::simd::*;

/// Bytes of a superblock (ggml's `block_iq3_xxs`): the factor of scales, 64 numbers of entries, and
/// for each 32 weights four times seven signs with a scale above them.
pub(super) const BYTES: usize = 98;

/// The type `IQ3_XXS`.
#[allow(non_camel_case_types, reason = "this is ggml's name")]
pub(super) struct IQ3_XXS;

impl Decode<BYTES> for IQ3_XXS {
    #[inline(never)]
    fn decode(block: &[u8; BYTES], to: &mut Decoded) {
        let grid = grids::IQ3_XXS.entries();
        let mut scales = [0; 8];
        let (numbers, _) = part::<2, 64, _, BYTES>(block).as_chunks::<8>();
        let (rests, _) = part::<66, 32, _, BYTES>(block).as_chunks::<4>();
        for (i, ((numbers, rest), scale)) in numbers.iter().zip(rests).zip(&mut scales).enumerate()
        {
            let rest = u32::from_le_bytes(*rest);
            let [first, last] = even_ones(rest);
            let [a, b, c, d, e, f, g, h] = numbers.map(|number| &grid[usize::from(number)]);
            to.set(2 * i, with_signs(load_four([a, b, c, d]), first));
            to.set(2 * i + 1, with_signs(load_four([e, f, g, h]), last));
            *scale = rest >> 28;
        }
        // A quarter, and the table has halves.
        let d = f32x4_mul(factor(part::<0, 2, _, BYTES>(block)), f32x4_splat(0.5));
        to.set_scales(d, twice(odd(narrow_eight(&scales))));
    }
}

decoded_format!(IQ3_XXS);

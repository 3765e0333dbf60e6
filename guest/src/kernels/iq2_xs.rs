//! Entries of 512 with eight values each, signs of even number, and 4-bit scales.

use super::decoded::{Decode, Decoded, decoded_format, even_ones, odd_scales, with_signs};
use super::grids;
use super::superblock::factor;
use crate::simd::*;

/// Bytes of a superblock (ggml's `block_iq2_xs`): the factor of scales, 32 numbers of entries with
/// seven signs above them, and 8 bytes of two scales each.
pub(super) const BYTES: usize = 74;

/// The type `IQ2_XS`.
#[allow(non_camel_case_types, reason = "this is ggml's name")]
pub(super) struct IQ2_XS;

impl Decode<BYTES> for IQ2_XS {
    #[inline(never)]
    fn decode(block: &[u8; BYTES], to: &mut Decoded) {
        let grid = grids::IQ2_XS.entries();
        let (parts, _) = part::<2, 64, _, BYTES>(block).as_chunks::<8>();
        for (i, part) in parts.iter().enumerate() {
            let numbers = [0, 1, 2, 3].map(|i| u16::from_le_bytes([part[2 * i], part[2 * i + 1]]));
            let [a, b, c, d] = numbers.map(|number| &grid[usize::from(number & 511)]);
            let [e, f, g, h] = numbers.map(|number| u32::from(number >> 9));
            let [first, last] = even_ones(e | f << 7 | g << 14 | h << 21);
            to.set(2 * i, with_signs(load_two([a, b]), first));
            to.set(2 * i + 1, with_signs(load_two([c, d]), last));
        }
        let d = f32x4_mul(factor(part::<0, 2, _, BYTES>(block)), f32x4_splat(0.125));
        to.set_scales(d, odd_scales(part::<66, 8, _, BYTES>(block)));
    }
}

decoded_format!(IQ2_XS);

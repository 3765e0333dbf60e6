//! Entries of 512 with four values each, signs, and 4-bit scales.

use super::decoded::{Decode, Decoded, decoded_format, odd_scales, with_signs};
use super::grids;
use super::superblock::{factor, twice};
use crate::simd::*;

/// Bytes of a superblock (ggml's `block_iq3_s`): the factor of scales, 64 bytes of the lower bits of
/// numbers of entries, 8 bytes of their upper bits, 32 bytes of signs, and 4 bytes of two scales
/// each.
pub(super) const BYTES: usize = 110;

/// The type `IQ3_S`.
#[allow(non_camel_case_types, reason = "this is ggml's name")]
pub(super) struct IQ3_S;

impl Decode<BYTES> for IQ3_S {
    #[inline(never)]
    fn decode(block: &[u8; BYTES], to: &mut Decoded) {
        let grid = grids::IQ3_S.entries();
        let (lower, _) = part::<2, 64, _, BYTES>(block).as_chunks::<8>();
        let (signs, _) = part::<74, 32, _, BYTES>(block).as_chunks::<2>().0.as_chunks::<2>();
        let upper = part::<66, 8, _, BYTES>(block);
        for (i, ((lower, signs), upper)) in lower.iter().zip(signs).zip(upper).enumerate() {
            let bits = u16x8(1, 2, 4, 8, 16, 32, 64, 128);
            let is_set = i16x8_eq(v128_and(u16x8_splat((*upper).into()), bits), bits);
            let numbers = v128_or(load_u8x8(lower), v128_and(is_set, u16x8_splat(256)));
            let entries = eight(numbers).map(|number| &grid[usize::from(number & 511)]);
            let [a, b, c, d, e, f, g, h] = entries;
            let [first, last] = *signs;
            to.set(2 * i, with_signs(load_four([a, b, c, d]), u16::from_le_bytes(first)));
            to.set(2 * i + 1, with_signs(load_four([e, f, g, h]), u16::from_le_bytes(last)));
        }
        // Each scale is that of two groups.
        let [a, b, c, d] = *part::<106, 4, _, BYTES>(block);
        let scales = odd_scales(&[a, b, c, d, 0, 0, 0, 0]);
        to.set_scales(factor(part::<0, 2, _, BYTES>(block)), twice(scales[0]));
    }
}

decoded_format!(IQ3_S);

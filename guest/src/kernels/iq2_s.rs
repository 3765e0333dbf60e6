//! Entries of 1,024 with eight values each, signs, and 4-bit scales.

use super::decoded::{Decode, Decoded, decoded_format, odd_scales, with_signs};
use super::grids;
use super::superblock::factor;
use crate::simd::*;

/// Bytes of a superblock (ggml's `block_iq2_s`): the factor of scales, 32 bytes of the lower bits
/// of numbers of entries, 32 bytes of signs, 8 bytes of the upper two bits, and 8 bytes of two
/// scales each.
pub(super) const BYTES: usize = 82;

/// The type `IQ2_S`.
#[allow(non_camel_case_types, reason = "this is ggml's name")]
pub(super) struct IQ2_S;

impl Decode<BYTES> for IQ2_S {
    #[inline(never)]
    fn decode(block: &[u8; BYTES], to: &mut Decoded) {
        let grid = grids::IQ2_S.entries();
        let (lower, _) = part::<2, 32, _, BYTES>(block).as_chunks::<4>();
        let (signs, _) = part::<34, 32, _, BYTES>(block).as_chunks::<4>();
        let upper = part::<66, 8, _, BYTES>(block);
        for (i, ((lower, signs), upper)) in lower.iter().zip(signs).zip(upper).enumerate() {
            let upper = usize::from(*upper);
            let entry = |i: usize| &grid[usize::from(lower[i]) | (upper >> (2 * i) & 3) << 8];
            let [a, b, c, d] = *signs;
            let first = with_signs(load_two([entry(0), entry(1)]), u16::from_le_bytes([a, b]));
            let last = with_signs(load_two([entry(2), entry(3)]), u16::from_le_bytes([c, d]));
            to.set(2 * i, first);
            to.set(2 * i + 1, last);
        }
        let d = f32x4_mul(factor(part::<0, 2, _, BYTES>(block)), f32x4_splat(0.125));
        to.set_scales(d, odd_scales(part::<74, 8, _, BYTES>(block)));
    }
}

decoded_format!(IQ2_S);

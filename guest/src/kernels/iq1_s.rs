//! Entries of 2,048 with eight values each, an eighth up or down, and 3-bit scales.

use super::decoded::{Decode, Decoded, decoded_format, odd};
use super::grids;
use super::superblock::{factor, twice};
use crate::simd::*;

/// Bytes of a superblock (ggml's `block_iq1_s`): the factor of scales, 32 bytes of the lower bits of
/// numbers of entries, and 16 bits for each 32 weights: three upper bits of each number, a scale,
/// and whether an eighth is taken from values or added to them.
pub(super) const BYTES: usize = 50;

/// The type `IQ1_S`.
#[allow(non_camel_case_types, reason = "this is ggml's name")]
pub(super) struct IQ1_S;

impl Decode<BYTES> for IQ1_S {
    #[inline(never)]
    fn decode(block: &[u8; BYTES], to: &mut Decoded) {
        let grid = grids::IQ1.entries();
        let (lower, _) = part::<2, 32, _, BYTES>(block).as_chunks::<4>();
        let (upper, _) = part::<34, 16, _, BYTES>(block).as_chunks::<2>();
        for (i, (lower, upper)) in lower.iter().zip(upper).enumerate() {
            let upper = usize::from(u16::from_le_bytes(*upper));
            let entry = |i: usize| &grid[usize::from(lower[i]) | (upper >> (3 * i) & 7) << 8];
            let delta = i8x16_splat(if upper >> 15 == 0 { 1 } else { -1 });
            to.set(2 * i, i8x16_add(load_two([entry(0), entry(1)]), delta));
            to.set(2 * i + 1, i8x16_add(load_two([entry(2), entry(3)]), delta));
        }
        let scales = load_bytes(part::<34, 16, _, BYTES>(block));
        let scales = v128_and(u16x8_shr(scales, 12), u16x8_splat(7));
        let d = f32x4_mul(factor(part::<0, 2, _, BYTES>(block)), f32x4_splat(0.125));
        to.set_scales(d, twice(odd(scales)));
    }
}

decoded_format!(IQ1_S);

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
        let (signs, _) = part::<74, 32, _, BYTES>(block).as_chunks::<4>();
        let upper = part::<66, 8, _, BYTES>(block);
        for (i, ((lower, signs), upper)) in lower.iter().zip(signs).zip(upper).enumerate() {
            let upper = usize::from(*upper);
            let entry = |i: usize| &grid[usize::from(lower[i]) | (upper >> i & 1) << 8];
            let [a, b, c, d] = *signs;
            let first = load_four([entry(0), entry(1), entry(2), entry(3)]);
            let last = load_four([entry(4), entry(5), entry(6), entry(7)]);
            to.set(2 * i, with_signs(first, u16::from_le_bytes([a, b])));
            to.set(2 * i + 1, with_signs(last, u16::from_le_bytes([c, d])));
        }
        // Each scale is that of two groups.
        let [a, b, c, d] = *part::<106, 4, _, BYTES>(block);
        let scales = odd_scales(&[a, b, c, d, 0, 0, 0, 0]);
        to.set_scales(factor(part::<0, 2, _, BYTES>(block)), twice(scales[0]));
    }
}

decoded_format!(IQ3_S);

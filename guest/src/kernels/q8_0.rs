//! Signed 8-bit values times a scale.

use super::f16;
use super::quantised::{Quantised, broadcast, first_half, quantised_format, signed_bytes};
use crate::simd::*;

/// Bytes of a block: the scale, then the values.
pub(super) const BYTES: usize = 34;

/// The type `Q8_0`.
pub(super) struct Q8_0;

impl Quantised<BYTES> for Q8_0 {
    type Scales = v128;

    #[inline(always)]
    fn scales([a, b, c, d]: [&[u8; BYTES]; 4]) -> v128 {
        f16::from_bits(i32x4(first_half(a), first_half(b), first_half(c), first_half(d)))
    }

    #[inline(always)]
    fn each_vector<const LANE: usize>(
        block: &[u8; BYTES],
        scales: v128,
        mut visit: impl FnMut(usize, v128),
    ) {
        let scale = broadcast::<LANE>(scales);
        let mut visit = |v, q| visit(v, f32x4_mul(q, scale));
        signed_bytes(load_bytes(part::<2, 16, _, BYTES>(block)), 0, &mut visit);
        signed_bytes(load_bytes(part::<18, 16, _, BYTES>(block)), 4, &mut visit);
    }
}

quantised_format!(Q8_0);

//! Signed 8-bit values times a scale.

use super::f16;
use super::quantised::{Quantised, first_half, quantised_format, signed_bytes};
use crate::simd::*;

/// Bytes of a block: the scale, then the values.
pub(super) const BYTES: usize = 34;

/// The type `Q8_0`.
pub(super) struct Q8_0;

impl Quantised<BYTES> for Q8_0 {
    #[inline(always)]
    fn scales([a, b, c, d]: [&[u8; BYTES]; 4]) -> [v128; 2] {
        let halves = i32x4(first_half(a), first_half(b), first_half(c), first_half(d));
        [f16::from_bits(halves), ZERO]
    }

    #[inline(always)]
    fn each_vector(block: &[u8; BYTES], [scale, _]: [v128; 2], mut visit: impl FnMut(usize, v128)) {
        let mut visit = |v, q| visit(v, f32x4_mul(q, scale));
        signed_bytes(load_bytes(part::<2, 16, _, BYTES>(block)), 0, &mut visit);
        signed_bytes(load_bytes(part::<18, 16, _, BYTES>(block)), 4, &mut visit);
    }
}

quantised_format!(Q8_0);

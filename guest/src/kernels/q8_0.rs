//! Signed 8-bit values times a scale.

use super::f16;
use super::quantised::{Quantised, quantised_format, signed_bytes};
use crate::simd::*;

/// Bytes of a block: the scale, then the values.
pub(super) const BYTES: usize = 34;

/// The type `Q8_0`.
pub(super) struct Q8_0;

impl Quantised<BYTES> for Q8_0 {
    #[inline(always)]
    fn each_vector(block: &[u8; BYTES], mut visit: impl FnMut(usize, v128)) {
        let scale = f16::from_upper_bits(splat_16(part::<0, 2, _, BYTES>(block)));
        let mut visit = |v, q| visit(v, f32x4_mul(q, scale));
        signed_bytes(load_bytes(part::<2, 16, _, BYTES>(block)), 0, &mut visit);
        signed_bytes(load_bytes(part::<18, 16, _, BYTES>(block)), 4, &mut visit);
    }
}

quantised_format!(Q8_0);

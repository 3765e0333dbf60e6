//! Weights that are 16-bit floats.

use super::dense::{Dense, dense_format};
use super::halves::{Half, from_bits};
use super::rows::Format as _;
use crate::simd::*;

/// The type `F16`.
pub(super) struct F16;

impl Dense<8> for F16 {
    #[inline(always)]
    fn widen(four: &[u8; 8]) -> v128 {
        from_bits(load_i16x4(four))
    }
}

dense_format!(F16, 8);

/// Stored ones as 32-bit floats.
pub(crate) fn from_halves(halves: &[Half], out: &mut [f32]) {
    F16::expand(halves.as_flattened(), out);
}

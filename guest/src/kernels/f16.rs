//! Weights that are 16-bit floats.

use super::dense::{Dense, dense_format};
use super::halves::from_bits;
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

//! The upper halves of 32-bit floats.

use super::dense::{Dense, dense_format};
use crate::simd::*;

/// The type `BF16`.
pub(super) struct BF16;

impl Dense<8> for BF16 {
    #[inline(always)]
    fn widen(four: &[u8; 8]) -> v128 {
        i32x4_shl(load_i16x4(four), 16)
    }
}

dense_format!(BF16, 8);

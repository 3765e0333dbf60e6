//! 32-bit floats.

use super::dense::{Dense, dense_format};
use super::order::{multiply_add, sum};
use crate::simd::*;

/// The type `F32`.
pub(super) struct F32;

impl Dense<16> for F32 {
    #[inline(always)]
    fn widen(four: &[u8; 16]) -> v128 {
        load_bytes(four)
    }
}

dense_format!(F32, 16);

/// The product of two rows of floats, in the one order.
pub(crate) fn dot(a: &[f32], b: &[f32]) -> f32 {
    let (a_vectors, a_rest) = a.as_chunks::<4>();
    let (b_vectors, b_rest) = b.as_chunks::<4>();
    let mut acc = [ZERO; 4];
    for (a, b) in a_vectors.chunks(4).zip(b_vectors.chunks(4)) {
        for ((acc, a), b) in acc.iter_mut().zip(a).zip(b) {
            *acc = multiply_add(*acc, load(a), load(b));
        }
    }
    a_rest.iter().zip(b_rest).fold(sum(acc), |sum, (a, b)| sum + a * b)
}

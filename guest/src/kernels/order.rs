//! The one order of a sum, which all kernels keep to.
//!
//! A row is a sequence of vectors of four weights. Vector `v` times its vector of `x` is
//! added to accumulator `v mod 4`, in order of `v`; at the end
//! `s = (a0 + a1) + (a2 + a3)` and the sum is `(s0 + s1) + (s2 + s3)`. Where the length is
//! no multiple of four, the last products are added to that one by one.

use crate::simd::*;

/// The end of the one order: four accumulators to a number.
#[inline(always)]
pub(super) fn sum(accumulators: [v128; 4]) -> f32 {
    let [a, b, c, d] = accumulators;
    let [a, b, c, d] = lanes4(f32x4_add(f32x4_add(a, b), f32x4_add(c, d)));
    (a + b) + (c + d)
}

/// The four floats of a vector.
#[inline(always)]
pub(super) fn lanes4(v: v128) -> [f32; 4] {
    [
        f32x4_extract_lane::<0>(v),
        f32x4_extract_lane::<1>(v),
        f32x4_extract_lane::<2>(v),
        f32x4_extract_lane::<3>(v),
    ]
}

/// `sum + a * b`, rounded twice.
#[inline(always)]
pub(super) fn multiply_add(sum: v128, a: v128, b: v128) -> v128 {
    f32x4_add(sum, f32x4_mul(a, b))
}

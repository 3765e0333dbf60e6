//! Element-wise functions and norms, four floats at a time, each lane alone: a value does
//! not depend on where in a vector it stands.

use crate::kernels;
use crate::simd::*;

/// `e^x` for each lane, to about one unit in the last place.
///
/// Below -87.3 the result is 0, above 88 it stays at `e^88`. Reduction to
/// `x = n ln 2 + r`, then the polynomial of Cephes' `expf`.
#[inline(always)]
pub(crate) fn exp(x: v128) -> v128 {
    const LOWEST: f32 = -87.336_54;
    let tiny = f32x4_lt(x, f32x4_splat(LOWEST));
    // Not `pmin` and `pmax`: where relaxed SIMD is enabled, LLVM makes instructions of them
    // that may have several results.
    let x = f32x4_max(f32x4_min(x, f32x4_splat(88.0)), f32x4_splat(LOWEST));
    let n = f32x4_nearest(f32x4_mul(x, f32x4_splat(core::f32::consts::LOG2_E)));
    let r = f32x4_sub(x, f32x4_mul(n, f32x4_splat(0.693_359_4)));
    let r = f32x4_sub(r, f32x4_mul(n, f32x4_splat(-2.121_944_4e-4)));
    let mut p = f32x4_splat(1.987_569_1e-4);
    for coefficient in [1.398_199_9e-3, 8.333_452e-3, 4.166_579_6e-2, 1.666_666_5e-1, 0.5] {
        p = f32x4_add(f32x4_mul(p, r), f32x4_splat(coefficient));
    }
    let p = f32x4_add(f32x4_add(f32x4_mul(p, f32x4_mul(r, r)), r), f32x4_splat(1.0));
    let power = i32x4_shl(i32x4_add(i32x4_trunc_sat_f32x4(n), i32x4_splat(127)), 23);
    v128_andnot(f32x4_mul(p, power), tiny)
}

/// `gate = gate / (1 + e^-gate) * up`, the SwiGLU activation.
pub(crate) fn swiglu(gate: &mut [f32], up: &[f32]) {
    each(gate, up, |gate, up| {
        let sigmoid = f32x4_add(f32x4_splat(1.0), exp(f32x4_neg(gate)));
        f32x4_mul(f32x4_div(gate, sigmoid), up)
    });
}

/// `to += with`.
pub(crate) fn add(to: &mut [f32], with: &[f32]) {
    each(to, with, |a, b| f32x4_add(a, b));
}

/// `out = x / sqrt(mean(x^2) + epsilon) * weight`.
pub(crate) fn rms_norm(x: &[f32], weight: &[f32], epsilon: f32, out: &mut [f32]) {
    let mean = kernels::dot(x, x) / x.len() as f32;
    let scale = f32x4_splat(1.0 / libm::sqrtf(mean + epsilon));
    out.copy_from_slice(x);
    each(out, weight, |x, weight| f32x4_mul(f32x4_mul(x, scale), weight));
}

/// Turns scores into `e^(scale * (score - highest))`, and returns what their sum divides by.
///
/// The sum has four lanes, by position mod 4; the last ones are filled up with zeros.
pub(crate) fn softmax(scores: &mut [f32], scale: f32) -> f32 {
    let highest = f32x4_splat(highest(scores));
    let scale = f32x4_splat(scale);
    let curve = |score| exp(f32x4_mul(f32x4_sub(score, highest), scale));
    let mut sum = ZERO;
    let (fours, rest) = scores.as_chunks_mut::<4>();
    for four in fours {
        let weight = curve(load(four));
        store(four, weight);
        sum = f32x4_add(sum, weight);
    }
    if !rest.is_empty() {
        let weight = curve(load_padded(rest, f32::MIN));
        rest.copy_from_slice(&lanes(weight)[..rest.len()]);
        sum = f32x4_add(sum, load_padded(rest, 0.0));
    }
    let [a, b, c, d] = lanes(sum);
    (a + b) + (c + d)
}

/// Replaces every NaN by the one with a clear sign and the quiet bit alone.
pub(crate) fn canonical_nan(values: &mut [f32]) {
    for value in values {
        if value.is_nan() {
            *value = f32::from_bits(0x7fc0_0000);
        }
    }
}

fn highest(values: &[f32]) -> f32 {
    let (fours, rest) = values.as_chunks::<4>();
    let mut high = load_padded(rest, f32::MIN);
    for four in fours {
        high = f32x4_max(high, load(four));
    }
    let [a, b, c, d] = lanes(high);
    let max = |a: f32, b: f32| if a < b { b } else { a };
    max(max(a, b), max(c, d))
}

/// `a = f(a, b)` for each pair of elements.
#[inline(always)]
fn each(a: &mut [f32], b: &[f32], f: impl Fn(v128, v128) -> v128) {
    let (fours_a, rest_a) = a.as_chunks_mut::<4>();
    let (fours_b, rest_b) = b.as_chunks::<4>();
    for (a, b) in fours_a.iter_mut().zip(fours_b) {
        store(a, f(load(a), load(b)));
    }
    if !rest_a.is_empty() {
        let last = lanes(f(load_padded(rest_a, 0.0), load_padded(rest_b, 0.0)));
        rest_a.copy_from_slice(&last[..rest_a.len()]);
    }
}

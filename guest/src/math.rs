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

/// `1 / (1 + e^-x)` for each lane.
#[inline(always)]
fn sigmoid(x: v128) -> v128 {
    f32x4_div(f32x4_splat(1.0), f32x4_add(f32x4_splat(1.0), exp(f32x4_neg(x))))
}

/// `x / (1 + e^-x)` for each lane.
#[inline(always)]
fn silu(x: v128) -> v128 {
    f32x4_div(x, f32x4_add(f32x4_splat(1.0), exp(f32x4_neg(x))))
}

/// `x / 2 * (1 + tanh(u))` for each lane, where `u = sqrt(2 / pi) * (x + 0.044715 * x^3)`; which is
/// `x / (1 + e^-2u)`, where nothing cancels.
#[inline(always)]
fn gelu(x: v128) -> v128 {
    let cube = f32x4_add(f32x4_splat(1.0), f32x4_mul(f32x4_splat(0.044_715), f32x4_mul(x, x)));
    // 2 * sqrt(2 / pi)
    let double = f32x4_mul(f32x4_mul(f32x4_splat(1.595_769), x), cube);
    f32x4_div(x, f32x4_add(f32x4_splat(1.0), exp(f32x4_neg(double))))
}

/// `max(x, 0)^2` for each lane.
#[inline(always)]
fn relu_squared(x: v128) -> v128 {
    let above = f32x4_max(x, ZERO);
    f32x4_mul(above, above)
}

/// The hyperbolic tangent of each lane, to a few units in the last place.
///
/// By its series near zero, where the quotient of `e^-2|x|` would lose digits.
#[inline(always)]
fn tanh(x: v128) -> v128 {
    let square = f32x4_mul(x, x);
    let mut series = f32x4_splat(-0.008_863_236);
    for coefficient in [0.021_869_488, -0.053_968_254, 0.133_333_34, -0.333_333_34, 1.0] {
        series = f32x4_add(f32x4_mul(series, square), f32x4_splat(coefficient));
    }
    let power = exp(f32x4_mul(f32x4_abs(x), f32x4_splat(-2.0)));
    let one = f32x4_splat(1.0);
    let quotient = f32x4_div(f32x4_sub(one, power), f32x4_add(one, power));
    let sign = v128_and(x, f32x4_splat(-0.0));
    let is_near = f32x4_lt(f32x4_abs(x), f32x4_splat(0.3));
    v128_bitselect(f32x4_mul(series, x), v128_or(quotient, sign), is_near)
}

/// What a feed-forward part does between its products.
#[derive(Clone, Copy)]
pub(crate) enum Activation {
    Silu,
    Gelu,
    ReluSquared,
    /// `g * sigmoid(1.702 * g) * (u + 1)`, with `g` and `u` at most 7, and `u` at least -7.
    Clamped,
}

impl Activation {
    /// `gate = f(gate) * up`.
    pub(crate) fn gated(self, gate: &mut [f32], up: &[f32]) {
        match self {
            Self::Silu => each(gate, up, |gate, up| f32x4_mul(silu(gate), up)),
            Self::Gelu => each(gate, up, |gate, up| f32x4_mul(gelu(gate), up)),
            Self::ReluSquared => each(gate, up, |gate, up| f32x4_mul(relu_squared(gate), up)),
            Self::Clamped => each(gate, up, |gate, up| {
                let most = f32x4_splat(7.0);
                let gate = f32x4_min(gate, most);
                let up = f32x4_max(f32x4_min(up, most), f32x4_splat(-7.0));
                let open = sigmoid(f32x4_mul(gate, f32x4_splat(1.702)));
                f32x4_mul(f32x4_mul(gate, open), f32x4_add(up, f32x4_splat(1.0)))
            }),
        }
    }

    /// `x = f(x)`; [`Clamped`](Self::Clamped) is of two factors, and changes nothing here.
    pub(crate) fn plain(self, x: &mut [f32]) {
        match self {
            Self::Silu => map(x, silu),
            Self::Gelu => map(x, gelu),
            Self::ReluSquared => map(x, relu_squared),
            Self::Clamped => {}
        }
    }
}

/// `x = 1 / (1 + e^-x)`.
pub(crate) fn logistic(x: &mut [f32]) {
    map(x, sigmoid);
}

/// `1 / (1 + e^-x)`.
pub(crate) fn logistic_of(x: f32) -> f32 {
    let [y, ..] = lanes(sigmoid(f32x4_splat(x)));
    y
}

/// `x = cap * tanh(x / cap)`.
pub(crate) fn cap(x: &mut [f32], cap: f32) {
    let cap = f32x4_splat(cap);
    map(x, |x| f32x4_mul(cap, tanh(f32x4_div(x, cap))));
}

/// `e^(by * ln(1 + e^x))`, in `f64`.
#[expect(clippy::cast_possible_truncation, reason = "rounding to f32 is meant")]
pub(crate) fn decay(x: f32, by: f32) -> f32 {
    let x = f64::from(x);
    let soft = if x > 20.0 { x } else { libm::log1p(libm::exp(x)) };
    libm::exp(soft * f64::from(by)) as f32
}

/// `to *= by`, element by element.
pub(crate) fn multiply(to: &mut [f32], by: &[f32]) {
    each(to, by, |a, b| f32x4_mul(a, b));
}

/// `x *= by`.
pub(crate) fn scale(x: &mut [f32], by: f32) {
    let by = f32x4_splat(by);
    map(x, |x| f32x4_mul(x, by));
}

/// `to += by * with`.
pub(crate) fn add_scaled(to: &mut [f32], by: f32, with: &[f32]) {
    let by = f32x4_splat(by);
    each(to, with, |a, b| f32x4_add(a, f32x4_mul(by, b)));
}

/// `to += with`.
pub(crate) fn add(to: &mut [f32], with: &[f32]) {
    each(to, with, |a, b| f32x4_add(a, b));
}

/// `x = x / sqrt(mean(x^2) + epsilon) * weight`.
pub(crate) fn rms_norm(x: &mut [f32], weight: &[f32], epsilon: f32) {
    let mean = kernels::dot(x, x) / x.len() as f32;
    let scale = f32x4_splat(1.0 / libm::sqrtf(mean + epsilon));
    each(x, weight, |x, weight| f32x4_mul(f32x4_mul(x, scale), weight));
}

/// `x = x / sqrt(mean(x^2) + epsilon)`.
pub(crate) fn unit_norm(x: &mut [f32], epsilon: f32) {
    let mean = kernels::dot(x, x) / x.len() as f32;
    scale(x, 1.0 / libm::sqrtf(mean + epsilon));
}

/// [`rms_norm`] of `x` less its mean.
pub(crate) fn layer_norm(x: &mut [f32], weight: &[f32], epsilon: f32) {
    // In `f64`, and in order: a mean near zero is a difference of large sums.
    let sum = x.iter().fold(0.0, |sum, x| sum + f64::from(*x));
    let mean = sum / x.len() as f64;
    #[expect(clippy::cast_possible_truncation, reason = "rounding to f32 is meant")]
    x.iter_mut().for_each(|x| *x = (f64::from(*x) - mean) as f32);
    rms_norm(x, weight, epsilon);
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

/// [`softmax`] with one more score, which is no part of the result but of the sum.
pub(crate) fn softmax_with(scores: &mut [f32], also: f32) -> f32 {
    let high = highest(scores);
    let high = if high < also { also } else { high };
    map(scores, |score| exp(f32x4_sub(score, f32x4_splat(high))));
    let [also, ..] = lanes(exp(f32x4_splat(also - high)));
    scores.iter().fold(also, |sum, weight| sum + weight)
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

/// `x = f(x)` for each element.
#[inline(always)]
fn map(x: &mut [f32], f: impl Fn(v128) -> v128) {
    let (fours, rest) = x.as_chunks_mut::<4>();
    for x in fours {
        store(x, f(load(x)));
    }
    if !rest.is_empty() {
        let last = lanes(f(load_padded(rest, 0.0)));
        rest.copy_from_slice(&last[..rest.len()]);
    }
}

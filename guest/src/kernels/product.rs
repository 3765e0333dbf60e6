//! Products of small integers: the one place where the flavours of the guest differ.
//!
//! Weights come as unsigned bytes of at most seven bits. The plain flavour multiplies them as
//! 16-bit integers: the even bytes and the odd bytes of a vector are one instruction away from
//! that, and activations are stored in the same order. The relaxed flavour multiplies bytes:
//! `relaxed_dot_i8x16_i7x16` has one result only, as one operand is within 0..=127. Both make
//! the same integers, without overflow: see each function for its bounds.

use crate::simd::*;

/// How many vectors the activations of 32 unsigned values take.
pub(super) const UNSIGNED: usize = if cfg!(target_feature = "relaxed-simd") { 2 } else { 4 };
/// The same of 16.
pub(super) const HALF: usize = UNSIGNED / 2;

/// 16 activations, as 16-bit integers in their order, as [`sixteen_by_sixteen`] wants them.
#[cfg(not(target_feature = "relaxed-simd"))]
#[inline(always)]
pub(super) fn pack([low, high]: [v128; 2]) -> [v128; HALF] {
    [
        i16x8_shuffle::<0, 2, 4, 6, 8, 10, 12, 14>(low, high),
        i16x8_shuffle::<1, 3, 5, 7, 9, 11, 13, 15>(low, high),
    ]
}

#[cfg(target_feature = "relaxed-simd")]
#[inline(always)]
pub(super) fn pack([low, high]: [v128; 2]) -> [v128; HALF] {
    [i8x16_narrow_i16x8(low, high)]
}

/// 16 unsigned values in the form in which they are multiplied.
#[cfg(not(target_feature = "relaxed-simd"))]
#[inline(always)]
pub(super) fn split(bytes: v128) -> [v128; HALF] {
    [v128_and(bytes, u16x8_splat(0xff)), u16x8_shr(bytes, 8)]
}

#[cfg(target_feature = "relaxed-simd")]
#[inline(always)]
pub(super) fn split(bytes: v128) -> [v128; HALF] {
    [bytes]
}

/// 32 unsigned values in that form.
#[inline(always)]
pub(super) fn values(bytes: [v128; 2]) -> [v128; UNSIGNED] {
    let halves = bytes.map(split);
    core::array::from_fn(|i| halves[i / HALF][i % HALF])
}

/// The product of a block of 32 values below 32 with activations, as four partial sums: at
/// most 8 * 31 * 127 = 31,496 each.
#[cfg(not(target_feature = "relaxed-simd"))]
#[inline(always)]
pub(super) fn unsigned(w: [v128; UNSIGNED], x: &[v128; UNSIGNED]) -> v128 {
    signed(w, x)
}

/// Sums of four products in 16 bits: at most 4 * 31 * 127 = 15,748.
#[cfg(target_feature = "relaxed-simd")]
#[inline(always)]
pub(super) fn unsigned(w: [v128; UNSIGNED], x: &[v128; UNSIGNED]) -> v128 {
    let dots = i16x8_add(
        i16x8_relaxed_dot_i8x16_i7x16(x[0], w[0]),
        i16x8_relaxed_dot_i8x16_i7x16(x[1], w[1]),
    );
    i32x4_extadd_pairwise_i16x8(dots)
}

/// The product of 32 16-bit integers with activations, as four partial sums.
#[inline(always)]
pub(super) fn signed(w: [v128; 4], x: &[v128; 4]) -> v128 {
    let dot = |i: usize| i32x4_dot_i16x8(w[i], x[i]);
    i32x4_add(i32x4_add(dot(0), dot(1)), i32x4_add(dot(2), dot(3)))
}

/// `scales[0] * (w[0] * x[0]) + scales[1] * (w[1] * x[1])` in four partial sums, for 16 values
/// below 64 each. Before they are scaled, sums are at most 4 * 63 * 127 = 32,004.
#[cfg(not(target_feature = "relaxed-simd"))]
#[inline(always)]
pub(super) fn scaled_pair(w: [v128; 2], x: &[[v128; HALF]; 2], scales: &[i16; 2]) -> v128 {
    let dot = |i: usize| {
        let [even, odd] = split(w[i]);
        i32x4_add(i32x4_dot_i16x8(even, x[i][0]), i32x4_dot_i16x8(odd, x[i][1]))
    };
    let both = v128_or(v128_and(dot(0), u32x4_splat(0xffff)), i32x4_shl(dot(1), 16));
    i32x4_dot_i16x8(both, splat_pair(scales))
}

#[cfg(target_feature = "relaxed-simd")]
#[inline(always)]
pub(super) fn scaled_pair(w: [v128; 2], x: &[[v128; HALF]; 2], scales: &[i16; 2]) -> v128 {
    let dot = |i: usize| {
        let products = i16x8_relaxed_dot_i8x16_i7x16(x[i][0], w[i]);
        i32x4_dot_i16x8(products, i16x8_splat(scales[i]))
    };
    i32x4_add(dot(0), dot(1))
}

/// The sums of the lanes of four vectors.
#[inline(always)]
pub(super) fn sums([a, b, c, d]: [v128; 4]) -> v128 {
    let pairs =
        |a, b| i32x4_add(i32x4_shuffle::<0, 4, 1, 5>(a, b), i32x4_shuffle::<2, 6, 3, 7>(a, b));
    let (ab, cd) = (pairs(a, b), pairs(c, d));
    i32x4_add(i32x4_shuffle::<0, 1, 4, 5>(ab, cd), i32x4_shuffle::<2, 3, 6, 7>(ab, cd))
}

/// The sum of the lanes of a vector.
#[inline(always)]
pub(super) fn sum(a: v128) -> i32 {
    let pairs = i32x4_add(a, i32x4_shuffle::<2, 3, 0, 1>(a, a));
    i32x4_extract_lane::<0>(pairs) + i32x4_extract_lane::<1>(pairs)
}

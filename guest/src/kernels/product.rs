//! Products of small integers: the one place where the flavors of the guest differ.
//!
//! Weights come as unsigned bytes of at most seven bits. The plain flavor multiplies them as
//! 16-bit integers: the even bytes and the odd bytes of a vector are one instruction away from
//! that, and activations are stored in the same order. The relaxed flavor multiplies bytes:
//! `relaxed_dot_i8x16_i7x16` has one result only, as one operand is within 0..=127. Both make
//! the same integers, without overflow: see each function for its bounds.

use crate::simd::*;

/// How the products of 32 values, in `V` vectors, with activations are made and summed.
pub(super) trait Product<const V: usize>: Sized {
    /// The product with one column, in partial sums.
    fn product(w: [v128; V], x: &[v128; V]) -> v128;

    /// The sums of the partial sums of four blocks.
    fn sums(products: [v128; 4]) -> v128;

    /// Steps of 32 bits after which sums have to be widened, a multiple of four.
    const STEPS: usize;

    /// Adds the products of 32 bits of values, which all lanes have, with 32 bits of four columns.
    fn step(sum: v128, w: v128, x: v128) -> v128;

    /// What some steps have summed, as a 32-bit integer for each column.
    fn wide(sum: v128) -> v128;

    /// The products of a block of each of some rows with four columns, `C` times.
    #[inline(always)]
    fn block<const R: usize, const C: usize>(
        w: [&[v128; V]; R],
        x: [&[v128; 16]; C],
    ) -> [[v128; C]; R] {
        let mut all = [[ZERO; C]; R];
        for first in (0..4 * V).step_by(Self::STEPS) {
            let sums = steps::<Self, V, R, C>(w, x, first);
            for (all, sums) in all.iter_mut().zip(sums) {
                for (all, sum) in all.iter_mut().zip(sums) {
                    *all = i32x4_add(*all, Self::wide(sum));
                }
            }
        }
        all
    }
}

/// Some steps of a block, from number `first` on, which is a multiple of four.
#[inline(always)]
fn steps<P: Product<V>, const V: usize, const R: usize, const C: usize>(
    w: [&[v128; V]; R],
    x: [&[v128; 16]; C],
    first: usize,
) -> [[v128; C]; R] {
    let mut sums = [[ZERO; C]; R];
    let never = never();
    for vector in first / 4..(first + P::STEPS) / 4 {
        let w = w.map(|w| four_times(w[vector]));
        let x = x.map(|x| &x.as_chunks::<4>().0[vector]);
        let mut add = |step: usize| {
            for (sums, w) in sums.iter_mut().zip(w) {
                for (sum, x) in sums.iter_mut().zip(x) {
                    *sum = P::step(*sum, w[step], x[step]);
                }
            }
            settle_all(sums.as_flattened_mut(), never & 1 << step);
        };
        // No loop, which LLVM would not unroll for all types.
        add(0);
        add(1);
        add(2);
        add(3);
    }
    sums
}

/// Values below 16.
pub(super) struct FourBits;
/// Values below 32.
pub(super) struct FiveBits;
/// Any signed bytes, as 16-bit integers.
pub(super) struct Bytes;

impl Product<UNSIGNED> for FourBits {
    #[inline(always)]
    fn product(w: [v128; UNSIGNED], x: &[v128; UNSIGNED]) -> v128 {
        unsigned(w, x)
    }

    #[inline(always)]
    fn sums(products: [v128; 4]) -> v128 {
        sums_of_4_bits(products)
    }

    const STEPS: usize = 4 * UNSIGNED;

    #[inline(always)]
    fn step(sum: v128, w: v128, x: v128) -> v128 {
        add_unsigned(sum, w, x)
    }

    #[inline(always)]
    fn wide(sum: v128) -> v128 {
        wide(sum)
    }
}

impl Product<UNSIGNED> for FiveBits {
    #[inline(always)]
    fn product(w: [v128; UNSIGNED], x: &[v128; UNSIGNED]) -> v128 {
        unsigned(w, x)
    }

    #[inline(always)]
    fn sums(products: [v128; 4]) -> v128 {
        sums_of_5_bits(products)
    }

    const STEPS: usize = FIVE_BIT_STEPS;

    #[inline(always)]
    fn step(sum: v128, w: v128, x: v128) -> v128 {
        add_unsigned(sum, w, x)
    }

    #[inline(always)]
    fn wide(sum: v128) -> v128 {
        wide(sum)
    }
}

impl Product<4> for Bytes {
    #[inline(always)]
    fn product(w: [v128; 4], x: &[v128; 4]) -> v128 {
        signed(w, x)
    }

    #[inline(always)]
    fn sums(products: [v128; 4]) -> v128 {
        sums(products)
    }

    const STEPS: usize = 16;

    #[inline(always)]
    fn step(sum: v128, w: v128, x: v128) -> v128 {
        i32x4_add(sum, i32x4_dot_i16x8(w, x))
    }

    #[inline(always)]
    fn wide(sum: v128) -> v128 {
        sum
    }
}

/// Which values superblocks of a type have: this decides how they are multiplied.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Values {
    /// Below 32.
    Small,
    /// Below 32, and two groups have the same scale.
    Shared,
    /// Below 64.
    Large,
    /// Within -63..=63.
    Medium,
    /// Within -127..=127, and two groups have the same scale.
    Signed,
}

impl Values {
    /// What is added to values when they are multiplied, and taken from the product again.
    pub(super) const fn bias(self) -> i8 {
        match self {
            Self::Medium => MEDIUM_BIAS,
            _ => 0,
        }
    }
}

/// Makes values within -63..=63 positive where they are multiplied as bytes of seven bits.
const MEDIUM_BIAS: i8 = if cfg!(target_feature = "relaxed-simd") { 64 } else { 0 };

/// How many vectors the activations of 32 unsigned values take.
pub(super) const UNSIGNED: usize = if cfg!(target_feature = "relaxed-simd") { 2 } else { 4 };
/// How many vectors the activations of 16 unsigned values take.
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

/// 16 signed values in the form in which they are multiplied.
#[cfg(not(target_feature = "relaxed-simd"))]
#[inline(always)]
pub(super) fn split_signed(bytes: v128) -> [v128; HALF] {
    [i16x8_shr(i16x8_shl(bytes, 8), 8), i16x8_shr(bytes, 8)]
}

#[cfg(target_feature = "relaxed-simd")]
#[inline(always)]
pub(super) fn split_signed(bytes: v128) -> [v128; HALF] {
    [bytes]
}

/// 16 values of a superblock in the form in which they are multiplied.
#[inline(always)]
pub(super) fn split_of(bytes: v128, of: Values) -> [v128; HALF] {
    match of {
        Values::Medium => split_signed(i8x16_add(bytes, i8x16_splat(MEDIUM_BIAS))),
        Values::Signed => split_signed(bytes),
        _ => split(bytes),
    }
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
fn unsigned(w: [v128; UNSIGNED], x: &[v128; UNSIGNED]) -> v128 {
    signed(w, x)
}

/// That product as eight 16-bit integers: at most 4 * 31 * 127 = 15,748 each.
#[cfg(target_feature = "relaxed-simd")]
#[inline(always)]
fn unsigned(w: [v128; UNSIGNED], x: &[v128; UNSIGNED]) -> v128 {
    i16x8_add(i16x8_relaxed_dot_i8x16_i7x16(x[0], w[0]), i16x8_relaxed_dot_i8x16_i7x16(x[1], w[1]))
}

/// The product of 32 16-bit integers with activations, as four partial sums.
#[inline(always)]
fn signed(w: [v128; 4], x: &[v128; 4]) -> v128 {
    let dot = |i: usize| i32x4_dot_i16x8(w[i], x[i]);
    i32x4_add(i32x4_add(dot(0), dot(1)), i32x4_add(dot(2), dot(3)))
}

/// `sum` plus the products of 16-bit integers with columns.
#[cfg(not(target_feature = "relaxed-simd"))]
#[inline(always)]
fn add_signed(sum: v128, w: [v128; 4], x: &[v128; 4]) -> v128 {
    let dot = |i: usize| i32x4_dot_i16x8(w[i], x[i]);
    let pairs = [i32x4_add(dot(0), dot(1)), i32x4_add(dot(2), dot(3))];
    i32x4_add(sum, i32x4_add(pairs[0], pairs[1]))
}

/// After how many steps sums of values below 32 are widened: four add up to at most
/// 8 * 31 * 127 = 31,496 in 16 bits.
const FIVE_BIT_STEPS: usize = if cfg!(target_feature = "relaxed-simd") { 4 } else { 16 };

/// `sum` plus the products of unsigned values with columns.
#[cfg(not(target_feature = "relaxed-simd"))]
#[inline(always)]
fn add_unsigned(sum: v128, w: v128, x: v128) -> v128 {
    i32x4_add(sum, i32x4_dot_i16x8(w, x))
}

/// In eight steps, values below 16 add up to at most 16 * 15 * 127 = 30,480 in each 16 bits.
#[cfg(target_feature = "relaxed-simd")]
#[inline(always)]
fn add_unsigned(sum: v128, w: v128, x: v128) -> v128 {
    i16x8_add(sum, i16x8_relaxed_dot_i8x16_i7x16(x, w))
}

/// The sums of a block, which [`add_unsigned`] has made.
#[cfg(not(target_feature = "relaxed-simd"))]
#[inline(always)]
fn wide(sum: v128) -> v128 {
    sum
}

#[cfg(target_feature = "relaxed-simd")]
#[inline(always)]
fn wide(sum: v128) -> v128 {
    i32x4_extadd_pairwise_i16x8(sum)
}

#[cfg(target_feature = "relaxed-simd")]
#[inline(always)]
fn four_dots(w: [v128; 4], x: &[v128; 4]) -> v128 {
    let dot = |i: usize| i16x8_relaxed_dot_i8x16_i7x16(x[i], w[i]);
    i16x8_add(i16x8_add(dot(0), dot(1)), i16x8_add(dot(2), dot(3)))
}

/// `scales[0] * (w[0] * x[0]) + scales[1] * (w[1] * x[1])` in four partial sums, for 16 values
/// below 64 each. Before they are scaled, sums are at most 4 * 63 * 127 = 32,004.
#[cfg(not(target_feature = "relaxed-simd"))]
#[inline(always)]
pub(super) fn scaled_pair(w: [v128; 2], x: &[[v128; HALF]; 2], scales: v128) -> v128 {
    scaled_halves(w.map(split), x, scales)
}

/// [`scaled_pair`] for values within -63..=63.
#[cfg(not(target_feature = "relaxed-simd"))]
#[inline(always)]
pub(super) fn scaled_medium(w: [v128; 2], x: &[[v128; HALF]; 2], scales: v128) -> v128 {
    scaled_halves(w.map(split_signed), x, scales)
}

#[cfg(not(target_feature = "relaxed-simd"))]
#[inline(always)]
fn scaled_halves(w: [[v128; HALF]; 2], x: &[[v128; HALF]; 2], scales: v128) -> v128 {
    let dot = |i: usize| {
        let [even, odd] = w[i];
        i32x4_add(i32x4_dot_i16x8(even, x[i][0]), i32x4_dot_i16x8(odd, x[i][1]))
    };
    let both = v128_or(v128_and(dot(0), u32x4_splat(0xffff)), i32x4_shl(dot(1), 16));
    i32x4_dot_i16x8(both, scales)
}

/// For values below 128: sums are at most 2 * 127 * 127 = 32,258 before they are scaled.
#[cfg(target_feature = "relaxed-simd")]
#[inline(always)]
pub(super) fn scaled_pair(w: [v128; 2], x: &[[v128; HALF]; 2], scales: v128) -> v128 {
    let [a, b] = [0, 1].map(|i: usize| i16x8_relaxed_dot_i8x16_i7x16(x[i][0], w[i]));
    let low = i16x8_shuffle::<0, 8, 1, 9, 2, 10, 3, 11>(a, b);
    let high = i16x8_shuffle::<4, 12, 5, 13, 6, 14, 7, 15>(a, b);
    i32x4_add(i32x4_dot_i16x8(low, scales), i32x4_dot_i16x8(high, scales))
}

/// [`scaled_pair`] for values within -63..=63, to each of which 64 is added.
#[cfg(target_feature = "relaxed-simd")]
#[inline(always)]
pub(super) fn scaled_medium(w: [v128; 2], x: &[[v128; HALF]; 2], scales: v128) -> v128 {
    scaled_pair(w.map(|w| i8x16_add(w, i8x16_splat(MEDIUM_BIAS))), x, scales)
}

/// [`scaled_pair`] with one scale, for values below 32. Sums are at most 8 * 31 * 127 =
/// 31,496 before they are scaled: they fit into the lower half of a lane, and the upper half,
/// their sign, is multiplied with zero.
#[cfg(not(target_feature = "relaxed-simd"))]
#[inline(always)]
pub(super) fn scaled_32(w: [v128; 2], x: &[[v128; HALF]; 2], scales: v128) -> v128 {
    let [[a, b], [c, d]] = w.map(split);
    let [[e, f], [g, h]] = *x;
    let scale = v128_and(scales, u32x4_splat(0xffff));
    i32x4_dot_i16x8(signed([a, b, c, d], &[e, f, g, h]), scale)
}

#[cfg(target_feature = "relaxed-simd")]
#[inline(always)]
pub(super) fn scaled_32(w: [v128; 2], x: &[[v128; HALF]; 2], scales: v128) -> v128 {
    i32x4_dot_i16x8(unsigned(w, &[x[0][0], x[1][0]]), scales)
}

/// [`scaled_32`] for values within -127..=127.
#[cfg(not(target_feature = "relaxed-simd"))]
#[inline(always)]
pub(super) fn scaled_signed(w: [v128; 2], x: &[[v128; HALF]; 2], scales: v128) -> v128 {
    let [[a, b], [c, d]] = w.map(split_signed);
    let [[e, f], [g, h]] = *x;
    i32x4_mul(signed([a, b, c, d], &[e, f, g, h]), i32x4_shr(scales, 16))
}

#[cfg(target_feature = "relaxed-simd")]
#[inline(always)]
pub(super) fn scaled_signed(w: [v128; 2], x: &[[v128; HALF]; 2], scales: v128) -> v128 {
    let dot = |i: usize| i32x4_dot_i16x8(dot_signed(w[i], x[i][0]), scales);
    i32x4_add(dot(0), dot(1))
}

/// The product of 16 values within -127..=127 with activations: the values without their signs,
/// which the activations get. Sums are at most 2 * 127 * 127 = 32,258.
#[cfg(target_feature = "relaxed-simd")]
#[inline(always)]
fn dot_signed(w: v128, x: v128) -> v128 {
    // Zero has no sign that counts, and LLVM would make a shift of less than zero, for which
    // x86-64 has no instruction.
    let negative = i8x16_lt(w, i8x16_splat(1));
    let x = i8x16_sub(v128_xor(x, negative), negative);
    i16x8_relaxed_dot_i8x16_i7x16(x, i8x16_abs(w))
}

/// `scale` times the products of 16 values with four columns: each 32 bits of the values with the
/// vector that has 32 bits of each column.
#[cfg(not(target_feature = "relaxed-simd"))]
#[inline(always)]
pub(super) fn scaled_columns(
    [even, odd]: [[v128; 4]; HALF],
    x: &[v128; 4 * HALF],
    scale: v128,
    _of: Values,
) -> v128 {
    let (x, _) = x.as_chunks::<4>();
    i32x4_mul(add_signed(signed(even, &x[0]), odd, &x[1]), scale)
}

/// Before they are scaled, sums are at most 8 * 31 * 127 = 31,496, 4 * 63 * 127 = 32,004, or
/// 2 * 127 * 127 = 32,258.
#[cfg(target_feature = "relaxed-simd")]
#[inline(always)]
pub(super) fn scaled_columns(
    [w]: [[v128; 4]; HALF],
    x: &[v128; 4 * HALF],
    scale: v128,
    of: Values,
) -> v128 {
    let dot = |i: usize| i16x8_relaxed_dot_i8x16_i7x16(x[i], w[i]);
    let scaled = |sums| i32x4_dot_i16x8(sums, scale);
    match of {
        Values::Small | Values::Shared => scaled(four_dots(w, x)),
        Values::Large => {
            let [a, b] = [i16x8_add(dot(0), dot(1)), i16x8_add(dot(2), dot(3))].map(scaled);
            i32x4_add(a, b)
        }
        Values::Medium => {
            let [a, b, c, d] = core::array::from_fn(|i| scaled(dot(i)));
            i32x4_add(i32x4_add(a, b), i32x4_add(c, d))
        }
        Values::Signed => {
            let [a, b, c, d] = core::array::from_fn(|i| scaled(dot_signed(w[i], x[i])));
            i32x4_add(i32x4_add(a, b), i32x4_add(c, d))
        }
    }
}

/// Two scales, which all lanes of `pair` have as 16-bit integers, as [`scaled_columns`] wants
/// them.
#[cfg(not(target_feature = "relaxed-simd"))]
#[inline(always)]
pub(super) fn scales(pair: v128) -> [v128; 2] {
    [i32x4_shr(i32x4_shl(pair, 16), 16), i32x4_shr(pair, 16)]
}

#[cfg(target_feature = "relaxed-simd")]
#[inline(always)]
pub(super) fn scales(pair: v128) -> [v128; 2] {
    [
        i16x8_shuffle::<0, 0, 0, 0, 0, 0, 0, 0>(pair, pair),
        i16x8_shuffle::<1, 1, 1, 1, 1, 1, 1, 1>(pair, pair),
    ]
}

/// The sums of the lanes of four vectors of 32-bit integers.
#[inline(always)]
fn sums([a, b, c, d]: [v128; 4]) -> v128 {
    let add = |a, b| i32x4_add(a, b);
    join(join_pairs(a, b, add), join_pairs(c, d, add), add)
}

/// The sums of four results of [`unsigned`] for values below 16.
///
/// Narrowing and multiplying with ones would be less, but is no faster, and LLVM 21, with which
/// WasmEdge compiles, crashes on it.
#[cfg(not(target_feature = "relaxed-simd"))]
#[inline(always)]
fn sums_of_4_bits(products: [v128; 4]) -> v128 {
    sums(products)
}

/// Each lane is the sum of 16 products at the end: at most 16 * 15 * 127 = 30,480.
#[cfg(target_feature = "relaxed-simd")]
#[inline(always)]
fn sums_of_4_bits([a, b, c, d]: [v128; 4]) -> v128 {
    let add = |a, b| i16x8_add(a, b);
    i32x4_extadd_pairwise_i16x8(join(join_pairs(a, b, add), join_pairs(c, d, add), add))
}

/// The sums of four results of [`unsigned`] for values below 32.
#[cfg(not(target_feature = "relaxed-simd"))]
#[inline(always)]
fn sums_of_5_bits(products: [v128; 4]) -> v128 {
    sums(products)
}

/// Each lane is the sum of eight products before it is widened: at most 8 * 31 * 127 = 31,496.
#[cfg(target_feature = "relaxed-simd")]
#[inline(always)]
fn sums_of_5_bits([a, b, c, d]: [v128; 4]) -> v128 {
    let pairs = |a, b| i32x4_extadd_pairwise_i16x8(join_pairs(a, b, |a, b| i16x8_add(a, b)));
    join(pairs(a, b), pairs(c, d), |a, b| i32x4_add(a, b))
}

/// Halves of `a` and `b` added: lanes `a, b, a, b`.
#[inline(always)]
fn join_pairs(a: v128, b: v128, add: impl Fn(v128, v128) -> v128) -> v128 {
    add(i32x4_shuffle::<0, 4, 1, 5>(a, b), i32x4_shuffle::<2, 6, 3, 7>(a, b))
}

/// Halves of two such results added: lanes `a, b, c, d`.
#[inline(always)]
fn join(ab: v128, cd: v128, add: impl Fn(v128, v128) -> v128) -> v128 {
    add(i32x4_shuffle::<0, 1, 4, 5>(ab, cd), i32x4_shuffle::<2, 3, 6, 7>(ab, cd))
}

/// The sum of the lanes of a vector.
#[inline(always)]
pub(super) fn sum(a: v128) -> i32 {
    let pairs = i32x4_add(a, i32x4_shuffle::<2, 3, 0, 1>(a, a));
    i32x4_extract_lane::<0>(pairs) + i32x4_extract_lane::<1>(pairs)
}

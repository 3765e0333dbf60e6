//! Activations as 8-bit integers with a scale for each block, in ggml's forms.
//!
//! `Q8_0` and `Q8_1` have blocks of 32 with a scale that is rounded to a 16-bit float; four of
//! them are a [`Group`] here. `Q8_K` has blocks of 256. All integers are within -127..=127.
//! What is stored beside them, and in which order, is what the products want.

use super::blocks::HEIGHT;
use super::f16;
use super::product::{self, UNSIGNED};
use super::superblocks::Unpacked;
use crate::alloc;
use crate::simd::*;

/// What the weights of a type are multiplied with.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Form {
    /// Groups for unsigned values: as the flavour of the guest wants them.
    Unsigned,
    /// Groups for signed values: 16-bit integers in their order.
    Signed,
    /// Superblocks.
    Super,
}

/// Room for a batch of activations, and for rows of weights that are unpacked for it.
pub(crate) struct Activations {
    pub(super) groups: &'static mut [Group],
    pub(super) supers: &'static mut [Super],
    pub(super) unpacked_groups: &'static mut [Group],
    pub(super) unpacked_supers: &'static mut [Unpacked],
}

impl Activations {
    /// Room for `rows` rows of at most `cols` activations, or none.
    pub(crate) fn new(rows: usize, cols: usize) -> Option<Self> {
        let (groups, supers) = (cols.div_ceil(GROUP), cols / SUPER);
        Some(Self {
            groups: alloc::zeroed(rows.checked_mul(groups)?)?,
            supers: alloc::zeroed(rows.checked_mul(supers)?)?,
            unpacked_groups: alloc::zeroed(groups.checked_mul(HEIGHT)?)?,
            unpacked_supers: alloc::zeroed(supers)?,
        })
    }

    /// Whether there is room for so many.
    pub(crate) fn fits(&self, rows: usize, cols: usize) -> bool {
        let (groups, supers) = (cols.div_ceil(GROUP), cols / SUPER);
        self.unpacked_supers.len() >= supers
            && self.unpacked_groups.len() / HEIGHT >= groups
            && self.supers.len() / supers.max(1) >= rows
            && self.groups.len() / groups.max(1) >= rows
    }

    /// Quantises rows of `cols` activations: as many as there is room for.
    pub(super) fn quantise(&mut self, x: &[f32], cols: usize, form: Form) {
        match form {
            Form::Super => supers(x, self.supers),
            Form::Signed | Form::Unsigned => groups(x, cols, form, self.groups),
        }
    }
}

/// Weights or activations of a group.
pub(super) const GROUP: usize = 128;
/// Activations of a superblock.
pub(super) const SUPER: usize = 256;

/// Four blocks of 32; those beyond the end of a row are zero.
#[derive(Clone, Copy)]
pub(crate) struct Group {
    /// Two or four vectors for each block.
    pub(super) quants: [v128; 16],
    /// The scale of each block.
    pub(super) scales: v128,
    /// The sum of each block's integers.
    pub(super) sums: v128,
    /// The sum times the scale, rounded to a 16-bit float: `s` of `Q8_1`.
    pub(super) scaled: v128,
}

/// A block of 256.
#[derive(Clone, Copy)]
pub(crate) struct Super {
    /// One or two vectors for each 16 activations.
    pub(super) quants: [v128; 32],
    /// The sum of each 16 integers, as 16-bit integers.
    pub(super) sums: [v128; 2],
    /// The scale, in all lanes.
    pub(super) scale: v128,
}

impl Group {
    pub(super) const ZERO: Self =
        Self { quants: [ZERO; 16], scales: ZERO, sums: ZERO, scaled: ZERO };

    /// At most four blocks of 32 activations.
    fn new(x: &[f32], form: Form) -> Self {
        let mut group = Self::ZERO;
        let (mut scales, mut sums, mut scaled) = ([0.0; 4], [0; 4], [0.0; 4]);
        for (i, x) in x.as_chunks::<32>().0.iter().enumerate().take(4) {
            let scale = largest(x) / 127.0;
            let inverse = if scale == 0.0 { 0.0 } else { 1.0 / scale };
            let quants = integers::<32, 4>(x, inverse, round_half_away);
            sums[i] = quants.iter().map(|eight| sum_of_16_bit(*eight)).sum();
            scales[i] = f16::round(scale);
            scaled[i] = f16::round(sums[i] as f32 * scale);
            if form == Form::Signed {
                group.quants[4 * i..][..4].copy_from_slice(&quants);
            } else {
                let to = &mut group.quants[i * UNSIGNED..][..UNSIGNED];
                for (half, to) in to.chunks_exact_mut(UNSIGNED / 2).enumerate() {
                    to.copy_from_slice(&product::pack([quants[2 * half], quants[2 * half + 1]]));
                }
            }
        }
        group.scales = load(&scales);
        group.sums = i32x4(sums[0], sums[1], sums[2], sums[3]);
        group.scaled = load(&scaled);
        group
    }
}

impl Super {
    fn new(x: &[f32; SUPER]) -> Self {
        let mut block = Self { quants: [ZERO; 32], sums: [ZERO; 2], scale: ZERO };
        let largest = largest(x);
        // The sign of the first of the largest decides that of the scale.
        let Some(signed) = x.iter().find(|x| x.abs() == largest && largest != 0.0) else {
            return block;
        };
        let inverse = -127.0 / signed;
        let mut sums = [0; 16];
        let quants = block.quants.chunks_exact_mut(UNSIGNED / 2);
        for ((x, to), sum) in x.as_chunks::<16>().0.iter().zip(quants).zip(&mut sums) {
            let [low, high] = integers::<16, 2>(x, inverse, |x| f32x4_nearest(x));
            *sum = sum_of_16_bit(low) + sum_of_16_bit(high);
            to.copy_from_slice(&product::pack([low, high]));
        }
        for (to, sums) in block.sums.iter_mut().zip(sums.as_chunks::<8>().0) {
            let [a, b, c, d, e, f, g, h] = *sums;
            *to = i16x8_narrow_i32x4(i32x4(a, b, c, d), i32x4(e, f, g, h));
        }
        block.scale = f32x4_splat(1.0 / inverse);
        block
    }
}

/// Quantises rows of `cols` activations, one after another, each to whole groups.
fn groups(x: &[f32], cols: usize, form: Form, out: &mut [Group]) {
    let out = out.chunks_exact_mut(cols.div_ceil(GROUP));
    for (x, out) in x.chunks_exact(cols).zip(out) {
        for (x, out) in x.chunks(GROUP).zip(out) {
            *out = Group::new(x, form);
        }
    }
}

/// Quantises rows whose length is a multiple of 256.
fn supers(x: &[f32], out: &mut [Super]) {
    for (x, out) in x.as_chunks::<SUPER>().0.iter().zip(out) {
        *out = Super::new(x);
    }
}

/// The largest of all sizes; NaN does not count.
#[inline(always)]
fn largest<const N: usize>(x: &[f32; N]) -> f32 {
    let highest = x.as_chunks::<4>().0.iter().fold(ZERO, |high, four| {
        let four = load(four);
        // Bits of floats without a sign have the order of the floats.
        i32x4_max(high, v128_and(f32x4_abs(four), f32x4_eq(four, four)))
    });
    lanes(highest).into_iter().fold(0.0, |a, b| if a < b { b } else { a })
}

/// `x * factor` rounded to integers within -127..=127, eight in a vector; NaN becomes 0.
#[inline(always)]
fn integers<const N: usize, const V: usize>(
    x: &[f32; N],
    factor: f32,
    round: impl Fn(v128) -> v128,
) -> [v128; V] {
    const { assert!(N == 8 * V) };
    let factor = f32x4_splat(factor);
    let (fours, _) = x.as_chunks::<4>();
    let four = |four: &[f32; 4]| {
        let q = i32x4_trunc_sat_f32x4(round(f32x4_mul(load(four), factor)));
        i32x4_max(i32x4_min(q, i32x4_splat(127)), i32x4_splat(-127))
    };
    core::array::from_fn(|i| i16x8_narrow_i32x4(four(&fours[2 * i]), four(&fours[2 * i + 1])))
}

/// C's `roundf`: halves go away from zero.
#[inline(always)]
fn round_half_away(x: v128) -> v128 {
    let whole = f32x4_trunc(x);
    let half = f32x4_ge(f32x4_abs(f32x4_sub(x, whole)), f32x4_splat(0.5));
    let sign = v128_and(x, u32x4_splat(1 << 31));
    f32x4_add(whole, v128_or(v128_and(half, f32x4_splat(1.0)), sign))
}

#[inline(always)]
fn sum_of_16_bit(eight: v128) -> i32 {
    product::sum(i32x4_extadd_pairwise_i16x8(eight))
}

//! Activations as 8-bit integers with a scale for each block, in ggml's forms.
//!
//! `Q8_0` and `Q8_1` have blocks of 32 with a scale that is rounded to a 16-bit float; four of
//! them are a [`Group`] here. `Q8_K` has blocks of 256. All integers are within -127..=127.
//! What is stored beside them, and in which order, is what the products want.

use polychord_abi::buffers::{self, Integers};
// `COLUMNS` share a group where there is more than one, and `HEIGHT` rows of weights are unpacked
// together, so that columns are read from a cache for all of them.
pub(super) use polychord_abi::buffers::{BLOCK, COLUMNS, GROUP, HEIGHT, SUPER};

use super::groups::{Group, Super, UnpackedBlocks, UnpackedSuper};
use super::halves;
use super::product::{self, HALF, UNSIGNED};
use crate::alloc;
use crate::simd::*;

/// What the weights of a type are multiplied with.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Form {
    /// Groups for unsigned values: as the flavor of the guest wants them.
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
    pub(super) unpacked_blocks: &'static mut [UnpackedBlocks],
    pub(super) unpacked_supers: &'static mut [[UnpackedSuper; HEIGHT]],
}

impl Activations {
    /// Buffers of these lengths; none if the memory cannot grow.
    pub(crate) fn new(lens: &Integers) -> Option<Self> {
        let len = |number: u64| usize::try_from(number).ok();
        Some(Self {
            groups: alloc::zeroed(len(lens.groups)?)?,
            supers: alloc::zeroed(len(lens.supers)?)?,
            unpacked_blocks: alloc::zeroed(len(lens.unpacked_blocks)?)?,
            unpacked_supers: alloc::zeroed(len(lens.unpacked_supers)?)?,
        })
    }

    /// Whether there is room for buffers of these lengths.
    pub(crate) fn fits(&self, lens: &Integers) -> bool {
        self.groups.len() as u64 >= lens.groups
            && self.supers.len() as u64 >= lens.supers
            && self.unpacked_blocks.len() as u64 >= lens.unpacked_blocks
            && self.unpacked_supers.len() as u64 >= lens.unpacked_supers
    }

    /// Quantizes rows of `cols` activations: as many as there is room for.
    pub(super) fn quantize(&mut self, x: &[f32], cols: usize, form: Form) {
        match form {
            Form::Super if x.len() == cols => supers(x, self.supers),
            Form::Super => super_columns(x, cols, self.supers),
            Form::Signed | Form::Unsigned if x.len() == cols => row(x, form, self.groups),
            Form::Signed | Form::Unsigned => columns(x, cols, form, self.groups),
        }
    }
}

// What the host counts with.
const _: () = {
    let sizes = [
        size_of::<Group>(),
        size_of::<Super>(),
        size_of::<UnpackedBlocks>(),
        size_of::<[UnpackedSuper; HEIGHT]>(),
    ];
    let mut index = 0;
    while index < sizes.len() {
        assert!(sizes[index] <= buffers::INTEGER_BYTES[index]);
        index += 1;
    }
};

impl Group {
    pub(super) const ZERO: Self =
        Self { quants: [ZERO; 16], scales: ZERO, sums: ZERO, scaled: ZERO };

    /// At most four blocks of a row.
    fn of_row(x: &[f32], form: Form) -> Self {
        let (mut group, mut numbers) = (Self::ZERO, [BlockScale::ZERO; 4]);
        let len = if form == Form::Signed { 4 } else { UNSIGNED };
        for (i, (x, numbers)) in x.as_chunks().0.iter().zip(&mut numbers).enumerate() {
            let quants;
            (quants, *numbers) = block(x, form);
            group.quants[len * i..][..len].copy_from_slice(&quants[..len]);
        }
        group.set(&numbers);
        group
    }

    /// A block of each of four columns.
    fn of_columns(x: [Option<&[f32; BLOCK]>; COLUMNS], form: Form) -> Self {
        let (mut group, mut numbers) = (Self::ZERO, [BlockScale::ZERO; 4]);
        let mut quants = [[ZERO; 4]; COLUMNS];
        for ((x, quants), numbers) in x.into_iter().zip(&mut quants).zip(&mut numbers) {
            if let Some(x) = x {
                (*quants, *numbers) = block(x, form);
            }
        }
        let [a, b, c, d] = quants;
        for (i, to) in group.quants.as_chunks_mut::<4>().0.iter_mut().enumerate() {
            *to = transpose([a[i], b[i], c[i], d[i]]);
        }
        group.set(&numbers);
        group
    }

    fn set(&mut self, numbers: &[BlockScale; 4]) {
        let [a, b, c, d] = numbers.each_ref().map(|numbers| numbers.sum);
        self.sums = i32x4(a, b, c, d);
        self.scales = load(&numbers.each_ref().map(|numbers| numbers.scale));
        self.scaled = load(&numbers.each_ref().map(|numbers| numbers.scaled));
    }
}

/// The scale of a block, and what is computed from it and the block's integers.
#[derive(Clone, Copy)]
struct BlockScale {
    scale: f32,
    sum: i32,
    scaled: f32,
}

impl BlockScale {
    const ZERO: Self = Self { scale: 0.0, sum: 0, scaled: 0.0 };
}

/// A block as eight 16-bit integers in each vector, and its scale, which is a 16-bit float.
pub(super) fn signed_block(x: &[f32; BLOCK]) -> ([v128; 4], f32) {
    let (quants, numbers) = block(x, Form::Signed);
    (quants, numbers.scale)
}

/// Quantizes a block, to as many vectors as the form has.
fn block(x: &[f32; BLOCK], form: Form) -> ([v128; 4], BlockScale) {
    let scale = largest(x) / 127.0;
    let inverse = if scale == 0.0 { 0.0 } else { 1.0 / scale };
    let mut quants = integers::<BLOCK, 4>(x, inverse, round_half_away);
    let sum = quants.iter().map(|eight| sum_of_16_bit(*eight)).sum();
    if form == Form::Unsigned {
        let [a, b, c, d] = quants;
        let halves = [product::pack([a, b]), product::pack([c, d])];
        for (to, half) in quants.chunks_exact_mut(UNSIGNED / 2).zip(halves) {
            to.copy_from_slice(&half);
        }
    }
    let (scale, scaled) = (halves::round(scale), halves::round(sum as f32 * scale));
    (quants, BlockScale { scale, sum, scaled })
}

impl Super {
    const ZERO: Self = Self { quants: [ZERO; 16 * HALF], sums: [ZERO; 2], scale: ZERO };

    fn of_row(x: &[f32; SUPER]) -> Self {
        let mut block = Self::ZERO;
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

    /// The quarters of a block of each of four columns.
    fn of_columns(x: [Option<&[f32; SUPER]>; COLUMNS]) -> [Self; 4] {
        let columns = x.map(|x| x.map_or(Self::ZERO, Self::of_row));
        let [a, b, c, d] = columns.each_ref().map(|column| lanes(column.scale)[0]);
        let mut quarters = [Self { scale: f32x4(a, b, c, d), ..Self::ZERO }; 4];
        let [a, b, c, d] = &columns;
        for (q, quarter) in quarters.iter_mut().enumerate() {
            for (i, to) in quarter.quants.as_chunks_mut::<4>().0.iter_mut().enumerate() {
                let at = 4 * HALF * q + i;
                *to = transpose([a.quants[at], b.quants[at], c.quants[at], d.quants[at]]);
            }
            let sums = transpose([a, b, c, d].map(|column| column.sums[q / 2]));
            quarter.sums = if q % 2 == 0 { [sums[0], sums[1]] } else { [sums[2], sums[3]] };
        }
        quarters
    }
}

/// Quantizes a row to whole groups.
fn row(x: &[f32], form: Form, out: &mut [Group]) {
    for (x, out) in x.chunks(GROUP).zip(out) {
        *out = Group::of_row(x, form);
    }
}

/// Quantizes columns of `cols` activations, four at a time: a group for each block of them.
fn columns(x: &[f32], cols: usize, form: Form, out: &mut [Group]) {
    for (x, out) in x.chunks(COLUMNS * cols).zip(out.chunks_exact_mut(cols / BLOCK)) {
        for (at, out) in out.iter_mut().enumerate() {
            let block = |column: usize| x.get(column * cols..)?.as_chunks().0.get(at);
            *out = Group::of_columns([block(0), block(1), block(2), block(3)], form);
        }
    }
}

/// Quantizes rows whose length is a multiple of 256.
fn supers(x: &[f32], out: &mut [Super]) {
    for (x, out) in x.as_chunks::<SUPER>().0.iter().zip(out) {
        *out = Super::of_row(x);
    }
}

/// Quantizes columns of `cols` activations, four at a time.
fn super_columns(x: &[f32], cols: usize, out: &mut [Super]) {
    let (out, _) = out.as_chunks_mut::<4>();
    for (x, out) in x.chunks(COLUMNS * cols).zip(out.chunks_exact_mut(cols / SUPER)) {
        for (at, out) in out.iter_mut().enumerate() {
            let block = |column: usize| x.get(column * cols..)?.as_chunks().0.get(at);
            *out = Super::of_columns([block(0), block(1), block(2), block(3)]);
        }
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

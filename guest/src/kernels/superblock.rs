//! Types that store superblocks of 256 weights: 16 groups of 16, each with a scale of a few
//! bits and perhaps a minimum, and two 16-bit floats that these are multiples of. ggml calls
//! them K types.

use super::halves;
use super::order::{multiply_add, sum};
use super::product::Values;
use super::quantized::signed_bytes;
use crate::simd::*;

/// Weights of a superblock.
pub(super) const WEIGHTS: usize = 256;

/// A type of which 256 weights take `B` bytes.
///
/// A weight is `d * scale * (value - OFFSET) - d_min * minimum`.
pub(super) trait Superblock<const B: usize> {
    /// What is taken from each stored value.
    const OFFSET: i8;
    /// Whether groups have a minimum.
    const MINIMUM: bool;
    /// Which values there are.
    const VALUES: Values;

    /// The two factors and the numbers of the groups.
    fn groups(block: &[u8; B]) -> Groups;

    /// The 16 stored values of group `group & 15`.
    fn values(block: &[u8; B], group: usize) -> v128;

    /// The values of groups `4 * (four & 3)` and the next three, in fewer steps than one by one.
    fn four_groups(block: &[u8; B], four: usize) -> [v128; 4];
}

/// What the groups of a superblock have: two times eight 16-bit integers each.
#[derive(Clone, Copy)]
pub(crate) struct Groups {
    /// Multiplies scales; in all four lanes.
    pub(super) d: v128,
    /// Multiplies minima; in all four lanes.
    pub(super) d_min: v128,
    /// The scale of each group.
    pub(super) scales: [v128; 2],
    /// The minimum of each group.
    pub(super) minima: [v128; 2],
}

/// A 16-bit float as a 32-bit one, in all lanes.
#[inline(always)]
pub(super) fn factor(half: &[u8; 2]) -> v128 {
    halves::from_upper_bits(splat_16(half))
}

/// Sixteen unsigned bytes as 16-bit integers.
#[inline(always)]
pub(super) fn widen(bytes: v128) -> [v128; 2] {
    [u16x8_extend_low_u8x16(bytes), u16x8_extend_high_u8x16(bytes)]
}

/// Each of eight numbers twice.
#[inline(always)]
pub(super) fn twice(numbers: v128) -> [v128; 2] {
    [
        i16x8_shuffle::<0, 0, 1, 1, 2, 2, 3, 3>(numbers, numbers),
        i16x8_shuffle::<4, 4, 5, 5, 6, 6, 7, 7>(numbers, numbers),
    ]
}

/// `factor * numbers` for all groups.
#[inline(always)]
fn floats(factor: v128, numbers: [v128; 2]) -> [f32; 16] {
    let mut out = [0.0; 16];
    let (fours, _) = out.as_chunks_mut::<4>();
    for (i, numbers) in numbers.into_iter().enumerate() {
        let low = f32x4_convert_i32x4(i32x4_extend_low_i16x8(numbers));
        let high = f32x4_convert_i32x4(i32x4_extend_high_i16x8(numbers));
        store(&mut fours[2 * i], f32x4_mul(factor, low));
        store(&mut fours[2 * i + 1], f32x4_mul(factor, high));
    }
    out
}

/// Scales and minima of a superblock as floats.
struct Scaled {
    scales: [f32; 16],
    minima: [f32; 16],
}

impl Scaled {
    #[inline(always)]
    fn new<S: Superblock<B>, const B: usize>(block: &[u8; B]) -> Self {
        let groups = S::groups(block);
        let minima = if S::MINIMUM { floats(groups.d_min, groups.minima) } else { [0.0; 16] };
        Self { scales: floats(groups.d, groups.scales), minima }
    }

    /// Gives the weights of a group to `visit(v, weights)` with `v` from 0 to 3.
    #[inline(always)]
    fn group<S: Superblock<B>, const B: usize>(
        &self,
        block: &[u8; B],
        group: usize,
        mut visit: impl FnMut(usize, v128),
    ) {
        let values = S::values(block, group);
        let values =
            if S::OFFSET == 0 { values } else { i8x16_sub(values, i8x16_splat(S::OFFSET)) };
        let scale = f32x4_splat(self.scales[group & 15]);
        let minimum = f32x4_splat(self.minima[group & 15]);
        signed_bytes(values, |v, q| {
            let weight = f32x4_mul(scale, q);
            visit(v, if S::MINIMUM { f32x4_sub(weight, minimum) } else { weight });
        });
    }
}

/// The product of a stored row with `x`, in the one order. A group is one turn of a loop, for
/// the reason that [`quantized::dot`](super::quantized::dot) gives.
#[inline(always)]
pub(super) fn dot<S: Superblock<B>, const B: usize>(row: &[u8], x: &[f32]) -> f32 {
    let (blocks, _) = row.as_chunks::<B>();
    // It is 256, but were that known here, LLVM would unroll the loop over the groups.
    let weights = x.len() / blocks.len().max(1);
    let mut acc = [ZERO; 4];
    for (block, x) in blocks.iter().zip(x.chunks_exact(weights.max(1))) {
        add::<S, B>(&mut acc, block, x);
    }
    sum(acc)
}

/// Adds the product of a superblock with `x` to the accumulators of the one order.
#[inline(always)]
pub(super) fn add<S: Superblock<B>, const B: usize>(
    acc: &mut [v128; 4],
    block: &[u8; B],
    x: &[f32],
) {
    let scaled = Scaled::new::<S, B>(block);
    for (group, x) in x.as_chunks::<16>().0.iter().enumerate() {
        let (x, _) = x.as_chunks::<4>();
        scaled.group::<S, B>(block, group, |v, weights| {
            acc[v] = multiply_add(acc[v], weights, load(&x[v]));
        });
    }
}

/// Expands a stored row.
#[inline(always)]
pub(super) fn expand<S: Superblock<B>, const B: usize>(row: &[u8], out: &mut [f32]) {
    for (block, out) in row.as_chunks::<B>().0.iter().zip(out.as_chunks_mut::<WEIGHTS>().0) {
        let scaled = Scaled::new::<S, B>(block);
        for (group, out) in out.as_chunks_mut::<16>().0.iter_mut().enumerate() {
            let (out, _) = out.as_chunks_mut::<4>();
            scaled.group::<S, B>(block, group, |v, weights| store(&mut out[v], weights));
        }
    }
}

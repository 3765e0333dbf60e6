//! Activations and weights in the forms that integer products read: several blocks together.
#![allow(unsafe_code)]

use super::activations::HEIGHT;
use super::product::HALF;
use crate::alloc::Zero;
use crate::simd::v128;

/// Four blocks of 32: of one row, where those beyond its end are zero, or one of each of four
/// columns, where those beyond the last one are zero.
#[derive(Clone, Copy)]
pub(super) struct Group {
    /// Of a row: two or four vectors for each block. Of columns: 32 bits of each in a vector.
    pub(super) quants: [v128; 16],
    /// The scale of each block.
    pub(super) scales: v128,
    /// The sum of each block's integers.
    pub(super) sums: v128,
    /// The sum times the scale, rounded to a 16-bit float: `s` of `Q8_1`.
    pub(super) scaled: v128,
}

// SAFETY: vectors of numbers, and nothing else.
unsafe impl Zero for Group {}

/// A block of 256, or a quarter of one of each of four columns, where those beyond the last one
/// are zero.
#[derive(Clone, Copy)]
pub(super) struct Super {
    /// One or two vectors for each 16 activations. Of columns: 32 bits of each in a vector.
    pub(super) quants: [v128; 16 * HALF],
    /// The sum of each 16 integers, as 16-bit integers. Of columns: two of each in a vector.
    pub(super) sums: [v128; 2],
    /// The scale, in all lanes. Of columns: of each one.
    pub(super) scale: v128,
}

// SAFETY: vectors of numbers, and nothing else.
unsafe impl Zero for Super {}

/// A block of each of four rows of weights, for many columns.
pub(super) struct UnpackedBlocks {
    /// The values, as they are multiplied: two or four vectors of each row.
    pub(super) values: [v128; 4 * HEIGHT],
    /// The scale of each row.
    pub(super) scales: v128,
    /// The minimum of each row.
    pub(super) minima: v128,
}

// SAFETY: vectors of numbers, and nothing else.
unsafe impl Zero for UnpackedBlocks {}

/// A superblock of weights for many columns.
#[derive(Clone, Copy)]
pub(super) struct UnpackedSuper {
    pub(super) quarters: [Quarter; 4],
    pub(super) d: v128,
    pub(super) d_min: v128,
}

/// Four groups of it.
#[derive(Clone, Copy)]
pub(super) struct Quarter {
    /// The values of each group, as they are multiplied.
    pub(super) values: [[v128; HALF]; 4],
    /// The scale of each group, as [`scales`](super::product::scales) makes it.
    pub(super) scales: [v128; 4],
    /// What two groups' sums are multiplied with, four times.
    pub(super) numbers: [v128; 2],
}

// SAFETY: vectors of numbers, and nothing else.
unsafe impl Zero for [UnpackedSuper; HEIGHT] {}

//! Rows of a cache as ggml's `Q8_0`: blocks of 32 signed bytes with a 16-bit scale.
//!
//! A number counts as the float `scale * byte`, rounded once, and sums are those of rows of floats, in
//! the one order. So such a cache has the bits of one of floats that were rounded so before.

use super::activations::signed_block;
use super::halves::to_halves;
use super::q8_0::{BYTES, Q8_0};
use super::rows::Format;
use crate::simd::*;

/// A block as it is stored: the scale, then the values.
pub(crate) type Q8Block = [u8; BYTES];

/// Stores whole blocks of floats as ggml does it: the largest size becomes 127, halves go away from
/// zero. NaN counts as 0.
pub(crate) fn to_q8(x: &[f32], out: &mut [Q8Block]) {
    for (x, out) in x.as_chunks().0.iter().zip(out) {
        let ([a, b, c, d], scale) = signed_block(x);
        let (to, values) = out.split_at_mut(2);
        to_halves(&[scale], to.as_chunks_mut().0);
        let narrow = [i8x16_narrow_i16x8(a, b), i8x16_narrow_i16x8(c, d)];
        for (to, values) in values.as_chunks_mut().0.iter_mut().zip(narrow) {
            store_bytes(to, values);
        }
    }
}

/// Expands whole blocks.
pub(crate) fn from_q8(blocks: &[Q8Block], out: &mut [f32]) {
    Q8_0::expand(blocks.as_flattened(), out);
}

//! Rows of a cache as ggml's `Q8_0`: blocks of 32 signed bytes with a 16-bit scale.
//!
//! A number counts as the float `scale * byte`, rounded once, and sums are those of rows of floats, in
//! the one order. So such a cache has the bits of one of floats that were rounded so before.

use polychord_abi::buffers::{BLOCK, MOST_IN_ROW};

use super::activations::signed_block;
use super::halves::to_halves;
use super::heads;
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

/// What [`heads::scores`] makes of such rows.
pub(crate) fn q8_scores(
    keys: &[Q8Block],
    queries: &[f32],
    dim: usize,
    scores: &mut [f32],
    stride: usize,
) {
    // Most rows are short, and room is cleared each time.
    if dim <= MOST / 2 {
        expanded::<{ 2 * MOST }>(keys, queries, dim, scores, stride);
    } else {
        expanded::<{ 4 * MOST }>(keys, queries, dim, scores, stride);
    }
}

const MOST: usize = MOST_IN_ROW as usize;

/// Expands some rows at a time, each once for all heads.
fn expanded<const ROOM: usize>(
    keys: &[Q8Block],
    queries: &[f32],
    dim: usize,
    scores: &mut [f32],
    stride: usize,
) {
    let mut room = [0.0; ROOM];
    // Four are multiplied together.
    let height = (ROOM / dim) & !3;
    for (number, keys) in keys.chunks(height * (dim / BLOCK)).enumerate() {
        let room = &mut room[..keys.len() * BLOCK];
        Q8_0::expand(keys.as_flattened(), room);
        heads::scores(room, queries, dim, &mut scores[number * height..], stride);
    }
}

/// What [`heads::mix`] makes of such rows.
pub(crate) fn q8_mix(
    values: [&[Q8Block]; 2],
    weights: &[f32],
    stride: usize,
    scales: &[f32],
    out: &mut [f32],
) {
    let dim = out.len() / scales.len();
    out.fill(0.0);
    if dim <= MOST / 2 {
        add::<{ 2 * MOST }>(values, weights, stride, scales.len(), out);
    } else {
        add::<{ 4 * MOST }>(values, weights, stride, scales.len(), out);
    }
    heads::scale(scales, out);
}

fn add<const ROOM: usize>(
    values: [&[Q8Block]; 2],
    weights: &[f32],
    stride: usize,
    heads: usize,
    out: &mut [f32],
) {
    let (mut room, mut row) = ([0.0; ROOM], 0);
    let dim = out.len() / heads;
    let height = (ROOM / dim) & !3;
    for values in values.into_iter().flat_map(|values| values.chunks(height * (dim / BLOCK))) {
        let room = &mut room[..values.len() * BLOCK];
        Q8_0::expand(values.as_flattened(), room);
        heads::add_rows(room, &weights[row..], stride, heads, out);
        row += room.len() / dim;
    }
}

//! Rows of a cache as ggml's `Q8_0`: blocks of 32 signed bytes with a 16-bit scale.
//!
//! A number counts as the float `scale * byte`, rounded once, and sums are those of rows of floats, in
//! the one order. So such a cache has the bits of one of floats that were rounded so before.
#![allow(unsafe_code)]

use polychord_abi::buffers::{BLOCK, MOST_IN_ROW};

use super::activations::signed_block;
use super::halves::{from_upper_bits, to_halves};
use super::heads;
use super::order::multiply_add;
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
    match scales.len() {
        4 => mix_of::<4, 1>(values, weights, stride, scales, out),
        3 => mix_of::<3, 1>(values, weights, stride, scales, out),
        2 => mix_of::<2, 2>(values, weights, stride, scales, out),
        _ => mix_of::<1, 2>(values, weights, stride, scales, out),
    }
}

/// Columns of one vector of bytes.
const EIGHT: usize = 8;

#[inline(never)]
fn mix_of<const C: usize, const N: usize>(
    values: [&[Q8Block]; 2],
    weights: &[f32],
    stride: usize,
    scales: &[f32],
    out: &mut [f32],
) {
    let dim = out.len() / C;
    let blocks = dim / BLOCK;
    let [before, behind] = values.map(|values| values.len() / blocks);
    let weights: [&[f32]; C] = core::array::from_fn(|c| &weights[c * stride..][..before + behind]);
    let pieces = [
        (values[0], weights.map(|weights| &weights[..before])),
        (values[1], weights.map(|weights| &weights[before..])),
    ];
    for at in (0..dim).step_by(EIGHT * N) {
        let sums = columns::<C, N>(&pieces, blocks, at);
        for (c, sums) in sums.into_iter().enumerate() {
            for (n, sum) in sums.as_flattened().iter().enumerate() {
                let scaled = f32x4_mul(*sum, f32x4_splat(scales[c]));
                out[c * dim + at + 4 * n..][..4].copy_from_slice(&lanes(scaled));
            }
        }
    }
}

/// The sums for `8 * N` columns of one block, from `at` on.
#[inline(always)]
fn columns<const C: usize, const N: usize>(
    pieces: &[(&[Q8Block], [&[f32]; C]); 2],
    blocks: usize,
    at: usize,
) -> [[[v128; 2]; N]; C] {
    let (number, first) = (at / BLOCK, at % BLOCK / EIGHT);
    assert!(number < blocks && first + N <= BLOCK / EIGHT);
    let mut acc = [[[ZERO; 2]; N]; C];
    for (values, weights) in pieces {
        let rows = values.len() / blocks;
        assert!(weights.iter().all(|weights| weights.len() == rows));
        for row in 0..rows {
            // SAFETY: `row * blocks + blocks` is no more than the length of `values`, and `number` is
            // below `blocks` (asserted).
            let block = unsafe { values.get_unchecked(row * blocks + number) };
            let values = floats::<N>(block, first);
            for (acc, weights) in acc.iter_mut().zip(weights) {
                // SAFETY: there are `rows` weights (asserted).
                let weight = f32x4_splat(unsafe { *weights.get_unchecked(row) });
                for (acc, value) in acc.as_flattened_mut().iter_mut().zip(values.as_flattened()) {
                    *acc = multiply_add(*acc, weight, *value);
                }
            }
        }
    }
    acc
}

/// `N` times eight numbers of a block, from eight number `first` on, of which there are as many.
#[inline(always)]
fn floats<const N: usize>(block: &Q8Block, first: usize) -> [[v128; 2]; N] {
    let scale = from_upper_bits(splat_16(part::<0, 2, _, BYTES>(block)));
    let eights = part::<2, BLOCK, _, BYTES>(block).as_chunks::<EIGHT>().0;
    core::array::from_fn(|n| {
        let eight = load_i8x8(&eights[first + n]);
        [i32x4_extend_low_i16x8(eight), i32x4_extend_high_i16x8(eight)]
            .map(|four| f32x4_mul(f32x4_convert_i32x4(four), scale))
    })
}

//! Products of attention, whose rows are as short as one head.
//!
//! Several query heads share the keys and values of one, which are loaded once for all of them.
//! Sums have the one order, as everywhere.
#![allow(unsafe_code)]

use super::order::multiply_add;
use crate::simd::*;

// Query heads that are computed at once: with more, engines run out of registers.
pub(crate) use polychord_abi::buffers::HEADS;

/// `scores[head * stride + row] = queries[head] * keys[row]`, for rows of `dim` numbers and as many
/// heads, at most [`HEADS`].
pub(crate) fn scores(keys: &[f32], queries: &[f32], dim: usize, scores: &mut [f32], stride: usize) {
    match queries.len() / dim {
        4 => scores_of::<4>(keys, queries, dim, scores, stride),
        3 => scores_of::<3>(keys, queries, dim, scores, stride),
        2 => scores_of::<2>(keys, queries, dim, scores, stride),
        _ => scores_of::<1>(keys, queries, dim, scores, stride),
    }
}

#[inline(never)]
fn scores_of<const C: usize>(keys: &[f32], x: &[f32], dim: usize, y: &mut [f32], stride: usize) {
    let x: [&[f32]; C] = core::array::from_fn(|c| &x[c * dim..][..dim]);
    let rows = keys.len() / dim;
    let row = |row: usize| &keys[row * dim..][..dim];
    let rest = |row: &[f32], c: usize, sum: f32| {
        let rest = row[dim & !3..].iter().zip(&x[c][dim & !3..]);
        rest.fold(sum, |sum, (key, x)| sum + key * x)
    };
    for first in (0..rows & !3).step_by(4) {
        let four = core::array::from_fn(|i| row(first + i));
        let [a, b, c, d] = four;
        let (upper, lower) = (pair([a, b], x), pair([c, d], x));
        for head in 0..C {
            let sums = [upper[0][head], upper[1][head], lower[0][head], lower[1][head]];
            let mut sums = lanes(sums_of_lanes(sums));
            if !dim.is_multiple_of(4) {
                for (sum, row) in sums.iter_mut().zip(four) {
                    *sum = rest(row, head, *sum);
                }
            }
            y[head * stride + first..][..4].copy_from_slice(&sums);
        }
    }
    for last in rows & !3..rows {
        let [sums, _] = pair([row(last); 2], x);
        for (head, sum) in sums.into_iter().enumerate() {
            let [sum, ..] = lanes(sums_of_lanes([sum; 4]));
            y[head * stride + last] = rest(row(last), head, sum);
        }
    }
}

/// The sums of the lanes of four vectors.
#[inline(always)]
fn sums_of_lanes(four: [v128; 4]) -> v128 {
    let [a, b, c, d] = transpose(four);
    f32x4_add(f32x4_add(a, b), f32x4_add(c, d))
}

/// The products of two rows with `C` heads, but for the sums of lanes.
///
/// Not inlined: it is long, and there is one for each number of heads.
#[inline(never)]
fn pair<const C: usize>(rows: [&[f32]; 2], x: [&[f32]; C]) -> [[v128; C]; 2] {
    let first = add(accumulator(rows, x, 0), accumulator(rows, x, 1));
    add(first, add(accumulator(rows, x, 2), accumulator(rows, x, 3)))
}

#[inline(always)]
fn add<const R: usize, const C: usize>(a: [[v128; C]; R], b: [[v128; C]; R]) -> [[v128; C]; R] {
    core::array::from_fn(|r| core::array::from_fn(|c| f32x4_add(a[r][c], b[r][c])))
}

/// One accumulator of each product: that of vectors `number`, `number + 4`, ...
#[inline(always)]
fn accumulator<const R: usize, const C: usize>(
    rows: [&[f32]; R],
    x: [&[f32]; C],
    number: usize,
) -> [[v128; C]; R] {
    let len = x[0].len();
    assert!(rows.iter().all(|row| row.len() == len) && x.iter().all(|x| x.len() == len));
    let (mut sums, never) = ([[ZERO; C]; R], never());
    let mut add = |v: usize, settle: u32| {
        // SAFETY: v < len / 4, and each slice has `len` elements (asserted).
        let rows = rows.map(|row| load(unsafe { &*row.as_ptr().add(4 * v).cast() }));
        for (c, x) in x.iter().enumerate() {
            // SAFETY: as above.
            let x = load(unsafe { &*x.as_ptr().add(4 * v).cast() });
            for (sums, row) in sums.iter_mut().zip(rows) {
                sums[c] = multiply_add(sums[c], row, x);
            }
        }
        settle_all(sums.as_flattened_mut(), never & settle);
    };
    let mut v = number;
    while v + 12 < len / 4 {
        add(v, 1);
        add(v + 4, 2);
        add(v + 8, 4);
        add(v + 12, 8);
        v += 16;
    }
    while v < len / 4 {
        add(v, 16);
        v += 4;
    }
    sums
}

/// Multiplies each of some heads with its scale.
pub(crate) fn scale_heads(scales: &[f32], out: &mut [f32]) {
    let dim = out.len() / scales.len();
    for (out, scale) in out.chunks_exact_mut(dim).zip(scales) {
        out.iter_mut().for_each(|out| *out *= scale);
    }
}

/// `out[head] += weights[head * stride + row] * values[row]`, in order of rows, for at most [`HEADS`] heads.
pub(crate) fn mix(values: &[f32], weights: &[f32], stride: usize, heads: usize, out: &mut [f32]) {
    match heads {
        4 => mix_of::<4, 2>(values, weights, stride, out),
        3 => mix_of::<3, 2>(values, weights, stride, out),
        2 => mix_of::<2, 4>(values, weights, stride, out),
        _ => mix_of::<1, 4>(values, weights, stride, out),
    }
}

#[inline(never)]
fn mix_of<const C: usize, const N: usize>(
    values: &[f32],
    weights: &[f32],
    stride: usize,
    out: &mut [f32],
) {
    let dim = out.len() / C;
    let rows = values.len() / dim;
    let weights: [&[f32]; C] = core::array::from_fn(|c| &weights[c * stride..][..rows]);
    let mut at = 0;
    while at + 4 * N <= dim {
        add_columns::<N, C>(values, weights, at, out);
        at += 4 * N;
    }
    while at + 4 <= dim {
        add_columns::<1, C>(values, weights, at, out);
        at += 4;
    }
    for at in at..dim {
        for (out, weights) in out.chunks_exact_mut(dim).zip(weights) {
            for (weight, row) in weights.iter().zip(values.chunks_exact(dim)) {
                out[at] += weight * row[at];
            }
        }
    }
}

/// Adds to `4 * N` columns from `at` on.
#[inline(always)]
fn add_columns<const N: usize, const C: usize>(
    values: &[f32],
    weights: [&[f32]; C],
    at: usize,
    out: &mut [f32],
) {
    let dim = out.len() / C;
    let rows = values.len() / dim;
    assert!(at + 4 * N <= dim && weights.iter().all(|weights| weights.len() == rows));
    let mut acc: [[v128; N]; C] = core::array::from_fn(|c| {
        let (four, _) = out[c * dim + at..][..4 * N].as_chunks::<4>();
        core::array::from_fn(|n| load(&four[n]))
    });
    let never = never();
    let mut add = |row: usize, weights: [v128; C]| {
        // SAFETY: `row * dim + dim` is no more than the length of `values`, and `at` leaves
        // room for `N` times four (asserted).
        let four = |n: usize| unsafe { &*values.as_ptr().add(row * dim + at + 4 * n).cast() };
        let values: [v128; N] = core::array::from_fn(|n| load(four(n)));
        for (acc, weight) in acc.iter_mut().zip(weights) {
            for (acc, values) in acc.iter_mut().zip(values) {
                *acc = multiply_add(*acc, weight, values);
            }
        }
        settle_all(acc.as_flattened_mut(), never & 1 << (row & 3));
    };
    for first in (0..rows & !3).step_by(4) {
        // SAFETY: there are `rows` weights (asserted).
        let four = |weights: &[f32]| load(unsafe { &*weights.as_ptr().add(first).cast() });
        let four = weights.map(|weights| four_times(four(weights)));
        // No loop, since the sums are to stay in registers.
        add(first, four.map(|four| four[0]));
        add(first + 1, four.map(|four| four[1]));
        add(first + 2, four.map(|four| four[2]));
        add(first + 3, four.map(|four| four[3]));
    }
    for row in rows & !3..rows {
        add(row, weights.map(|weights| f32x4_splat(weights[row])));
    }
    for (c, acc) in acc.into_iter().enumerate() {
        let (four, _) = out[c * dim + at..][..4 * N].as_chunks_mut::<4>();
        four.iter_mut().zip(acc).for_each(|(four, acc)| store(four, acc));
    }
}

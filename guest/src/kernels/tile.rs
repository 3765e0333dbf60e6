//! Products of float rows with many columns, in tiles that stay in registers.
//!
//! Accumulator `i` of the one order only sees vectors `i`, `i + 4`, `i + 8`...; so a tile
//! goes over its rows (in parts) four times, once for each accumulator, and one register is enough
//! for each element of the tile: two rows by four columns leave room for the operands.
#![allow(unsafe_code)]

use super::order::{multiply_add, sum};
use crate::simd::*;

/// How much of its rows a tile passes over four times while it is in a first-level cache;
/// a multiple of 16, so that each part begins with accumulator 0.
const PART: usize = 512;

/// `y[column * stride + row] = x[column] * w[row]` for rows of `cols` floats.
pub(crate) fn multiply(w: &[f32], x: &[f32], cols: usize, y: &mut [f32], stride: usize) {
    let groups = x.chunks(4 * cols).zip(y.chunks_mut(4 * stride));
    for (x, y) in groups {
        match x.len() / cols {
            4 => columns::<4>(w, x, cols, y, stride),
            3 => columns::<3>(w, x, cols, y, stride),
            2 => columns::<2>(w, x, cols, y, stride),
            _ => columns::<1>(w, x, cols, y, stride),
        }
    }
}

#[inline(always)]
fn columns<const C: usize>(w: &[f32], x: &[f32], cols: usize, y: &mut [f32], stride: usize) {
    let x = core::array::from_fn(|c| &x[c * cols..][..cols]);
    for (pair, w) in w.chunks(2 * cols).enumerate() {
        let mut put = |row: usize, values: [f32; C]| {
            for (c, value) in values.into_iter().enumerate() {
                y[c * stride + 2 * pair + row] = value;
            }
        };
        if w.len() == 2 * cols {
            let (upper, lower) = w.split_at(cols);
            let [upper, lower] = tile::<2, C>([upper, lower], x);
            put(0, upper);
            put(1, lower);
        } else {
            let [only] = tile::<1, C>([w], x);
            put(0, only);
        }
    }
}

/// The products of `R` rows with `C` columns, all of one length.
#[inline(always)]
fn tile<const R: usize, const C: usize>(w: [&[f32]; R], x: [&[f32]; C]) -> [[f32; C]; R] {
    let len = x[0].len();
    let mut acc = [[[ZERO; C]; R]; 4];
    for start in (0..len).step_by(PART) {
        let part = start..len.min(start + PART);
        let (w, x) = (w.map(|row| &row[part.clone()]), x.map(|row| &row[part.clone()]));
        for (first, acc) in acc.iter_mut().enumerate() {
            accumulate(&w, &x, first, acc);
        }
    }
    let whole = len & !3;
    core::array::from_fn(|r| {
        core::array::from_fn(|c| {
            let rest = w[r][whole..].iter().zip(&x[c][whole..]);
            let sum = sum(core::array::from_fn(|first| acc[first][r][c]));
            rest.fold(sum, |sum, (w, x)| sum + w * x)
        })
    })
}

/// Adds to accumulator `first` of each element of a tile.
///
/// Not inlined: engines would try to keep all four in registers, in vain.
#[inline(never)]
fn accumulate<const R: usize, const C: usize>(
    w: &[&[f32]; R],
    x: &[&[f32]; C],
    first: usize,
    sums: &mut [[v128; C]; R],
) {
    let len = x[0].len();
    assert!(w.iter().chain(x).all(|row| row.len() == len));
    let mut acc = *sums;
    for v in (first..len / 4).step_by(4) {
        // SAFETY: v < len / 4, and each slice has `len` elements (asserted).
        let vector = |row: &[f32]| load(unsafe { &*row.as_ptr().add(4 * v).cast() });
        let w = w.map(vector);
        for (c, x) in x.iter().enumerate() {
            let x = vector(x);
            for (acc, w) in acc.iter_mut().zip(w) {
                acc[c] = multiply_add(acc[c], w, x);
            }
        }
    }
    *sums = acc;
}

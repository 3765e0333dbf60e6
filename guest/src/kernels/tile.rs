//! Products of float rows with many columns, in tiles that stay in registers.
//!
//! Accumulator `i` of the one order only sees vectors `i`, `i + 4`, `i + 8`...; so a tile
//! goes over its rows four times, once for each accumulator, and one register is enough
//! for each element of the tile: two rows by four columns leave room for the operands.
#![allow(unsafe_code)]

use super::{multiply_add, sum};
use crate::simd::*;

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
#[inline(never)]
fn tile<const R: usize, const C: usize>(w: [&[f32]; R], x: [&[f32]; C]) -> [[f32; C]; R] {
    let len = x[0].len();
    assert!(w.iter().chain(&x).all(|row| row.len() == len));
    let vectors = len / 4;
    let mut sums = [[[ZERO; 4]; C]; R];
    for first in 0..4 {
        let mut acc = [[ZERO; C]; R];
        let mut v = first;
        // Four steps at once, so that their addresses are one register with four offsets.
        while v + 12 < vectors {
            // SAFETY: v + 12 < vectors, and each slice has 4 * vectors elements (asserted).
            unsafe {
                step(&mut acc, w, x, v);
                step(&mut acc, w, x, v + 4);
                step(&mut acc, w, x, v + 8);
                step(&mut acc, w, x, v + 12);
            }
            v += 16;
        }
        while v < vectors {
            // SAFETY: v < vectors, and each slice has 4 * vectors elements (asserted).
            unsafe { step(&mut acc, w, x, v) };
            v += 4;
        }
        for (sums, acc) in sums.as_flattened_mut().iter_mut().zip(acc.as_flattened()) {
            sums[first] = *acc;
        }
    }
    core::array::from_fn(|r| {
        core::array::from_fn(|c| {
            let rest = w[r][4 * vectors..].iter().zip(&x[c][4 * vectors..]);
            rest.fold(sum(sums[r][c]), |sum, (w, x)| sum + w * x)
        })
    })
}

/// Adds the products of vector `v`.
///
/// # Safety
///
/// Each slice has at least `4 * (v + 1)` elements.
#[inline(always)]
unsafe fn step<const R: usize, const C: usize>(
    acc: &mut [[v128; C]; R],
    w: [&[f32]; R],
    x: [&[f32]; C],
    v: usize,
) {
    // SAFETY: by this function's condition, elements 4v to 4v + 3 are inside the slice.
    let vector = |row: &[f32]| load(unsafe { &*row.as_ptr().add(4 * v).cast() });
    let w = w.map(vector);
    for (c, x) in x.into_iter().enumerate() {
        let x = vector(x);
        for r in 0..R {
            acc[r][c] = multiply_add(acc[r][c], w[r], x);
        }
    }
}

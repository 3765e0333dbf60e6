//! Types that store each weight by itself.

use super::order::{multiply_add, sum};
use crate::simd::*;

/// A type of which four weights take `B` bytes.
pub(super) trait Dense<const B: usize> {
    /// Four stored weights as floats.
    fn widen(four: &[u8; B]) -> v128;
}

/// The product of a stored row with `x`, in the one order.
#[inline(always)]
pub(super) fn dot<D: Dense<B>, const B: usize>(row: &[u8], x: &[f32]) -> f32 {
    let (vectors, rest) = row.as_chunks::<B>();
    let (x_vectors, x_rest) = x.as_chunks::<4>();
    let mut acc = [ZERO; 4];
    let (fours, last) = vectors.as_chunks::<4>();
    let (x_fours, x_last) = x_vectors.as_chunks::<4>();
    for (four, x) in fours.iter().zip(x_fours) {
        for i in 0..4 {
            acc[i] = multiply_add(acc[i], D::widen(&four[i]), load(&x[i]));
        }
    }
    #[allow(clippy::needless_range_loop, reason = "constant indices: accumulators in registers")]
    for i in 0..3 {
        if let (Some(four), Some(x)) = (last.get(i), x_last.get(i)) {
            acc[i] = multiply_add(acc[i], D::widen(four), load(x));
        }
    }
    let rest = rest_of::<D, B>(rest);
    rest.iter().zip(x_rest).fold(sum(acc), |sum, (w, x)| sum + w * x)
}

/// Expands a stored row.
#[inline(always)]
pub(super) fn expand<D: Dense<B>, const B: usize>(row: &[u8], out: &mut [f32]) {
    let (vectors, rest) = row.as_chunks::<B>();
    let (outs, out_rest) = out.as_chunks_mut::<4>();
    for (four, out) in vectors.iter().zip(outs) {
        store(out, D::widen(four));
    }
    for (out, w) in out_rest.iter_mut().zip(rest_of::<D, B>(rest)) {
        *out = w;
    }
}

/// The last weights, fewer than four, filled up with zeros.
#[inline(always)]
fn rest_of<D: Dense<B>, const B: usize>(rest: &[u8]) -> [f32; 4] {
    let mut four = [0; B];
    for (slot, byte) in four.iter_mut().zip(rest) {
        *slot = *byte;
    }
    lanes(D::widen(&four))
}

/// Makes a [`Format`](super::rows::Format) of a dense type.
macro_rules! dense_format {
    ($name:ident, $bytes:literal) => {
        impl super::rows::Format for $name {
            #[inline(never)]
            fn expand(row: &[u8], out: &mut [f32]) {
                super::dense::expand::<Self, $bytes>(row, out);
            }
            #[inline(always)]
            fn dot(row: &[u8], x: &[f32]) -> f32 {
                super::dense::dot::<Self, $bytes>(row, x)
            }
        }
    };
}
pub(super) use dense_format;

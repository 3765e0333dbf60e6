//! Causal attention over the cache of keys and values.

use crate::cache::{Element, Numbers};
use crate::math;
use crate::model::Shape;
use crate::simd::*;

/// Keys and values of one block: `[heads][context][head_dim]` each, for the key and value heads
/// of this instance.
///
/// The positions of a head are contiguous, and pages beyond the last one stay untouched.
pub(crate) struct Cache {
    pub(crate) keys: Numbers,
    pub(crate) values: Numbers,
}

impl Cache {
    /// Stores the keys and values of all heads at a position.
    pub(crate) fn put(&mut self, shape: &Shape, position: usize, keys: &[f32], values: &[f32]) {
        let (dim, head_len) = (shape.head_dim, shape.context * shape.head_dim);
        let new = keys.chunks_exact(dim).zip(values.chunks_exact(dim));
        for (head, (keys, values)) in new.enumerate() {
            let at = head * head_len + position * dim;
            self.keys.put(at, keys);
            self.values.put(at, values);
        }
    }

    /// One row's attention over positions `0..=position`; `scores` holds a context for
    /// each query head of a group.
    pub(crate) fn attend(
        &self,
        shape: &Shape,
        position: usize,
        queries: &[f32],
        [scores, scratch]: [&mut [f32]; 2],
        out: &mut [f32],
    ) {
        let (dim, head_len) = (shape.head_dim, shape.context * shape.head_dim);
        let scale = 1.0 / libm::sqrtf(dim as f32);
        let (group, heads) = (shape.heads / shape.kv_heads, shape.own_heads());
        for (head, kv_head) in shape.own_kv_heads().enumerate() {
            let seen = head * head_len..head * head_len + (position + 1) * dim;
            let group = (kv_head * group).max(heads.start)..((kv_head + 1) * group).min(heads.end);
            let scores = &mut scores[..group.len() * shape.context];
            let group = (group.start - heads.start) * dim..(group.end - heads.start) * dim;
            let (queries, out) = (&queries[group.clone()], &mut out[group]);
            self.keys.multiply(seen.clone(), queries, dim, scores, scratch);
            let scores = scores.chunks_exact_mut(shape.context);
            for (scores, out) in scores.zip(out.chunks_exact_mut(dim)) {
                let weights = &mut scores[..=position];
                let sum = math::softmax(weights, scale);
                match &self.values {
                    Numbers::F32(values) => mix(weights, &values[seen.clone()], 1.0 / sum, out),
                    Numbers::F16(values) => mix(weights, &values[seen.clone()], 1.0 / sum, out),
                }
            }
        }
    }
}

/// `out = scale * sum(weights[i] * values[i])`, in order of `i`.
fn mix<E: Element>(weights: &[f32], values: &[E], scale: f32, out: &mut [f32]) {
    let dim = out.len();
    let (wide, rest) = out.as_chunks_mut::<32>();
    let mut at = 0;
    for out in wide {
        mix_part::<8, E>(weights, values.chunks_exact(dim), at, scale, out.as_chunks_mut().0);
        at += 32;
    }
    let (fours, rest) = rest.as_chunks_mut::<4>();
    for out in fours {
        mix_part::<1, E>(weights, values.chunks_exact(dim), at, scale, core::slice::from_mut(out));
        at += 4;
    }
    for out in rest {
        let column = values.chunks_exact(dim).map(|row| row[at].one());
        *out = scale * weights.iter().zip(column).fold(0.0, |sum, (w, v)| sum + w * v);
        at += 1;
    }
}

/// Elements `at..at + 4 * N` of [`mix`].
#[inline(always)]
fn mix_part<'a, const N: usize, E: Element + 'a>(
    weights: &[f32],
    values: impl Iterator<Item = &'a [E]>,
    at: usize,
    scale: f32,
    out: &mut [[f32; 4]],
) {
    let mut acc = [ZERO; N];
    for (weight, row) in weights.iter().zip(values) {
        let weight = f32x4_splat(*weight);
        let (row, _) = row[at..at + 4 * N].as_chunks::<4>();
        for (acc, row) in acc.iter_mut().zip(row) {
            *acc = f32x4_add(*acc, f32x4_mul(weight, E::four(row)));
        }
    }
    let scale = f32x4_splat(scale);
    for (out, acc) in out.iter_mut().zip(acc) {
        store(out, f32x4_mul(acc, scale));
    }
}

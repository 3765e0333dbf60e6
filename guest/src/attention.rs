//! Causal attention over the cache of keys and values.

use core::ops::Range;

use crate::cache::KvBuffer;
use crate::kernels::HEADS;
use crate::math;
use crate::model::BlockShape;

/// Keys and values of one block: `[heads][positions][head_dim]` each, for the key and value heads
/// of this instance. Without values, keys are values, too.
///
/// The positions of a head are contiguous, and pages beyond the last one stay untouched. Where there
/// are more positions than there is room for, the first ones are overwritten.
pub(crate) struct Cache {
    pub(crate) keys: KvBuffer,
    pub(crate) values: KvBuffer,
}

impl Cache {
    /// Stores the keys and values of all heads at a position.
    pub(crate) fn put(
        &mut self,
        shape: &BlockShape,
        position: usize,
        keys: &[f32],
        values: &[f32],
    ) {
        let (dim, head_len) = (shape.head_dim, shape.positions * shape.head_dim);
        let place = position % shape.positions * dim;
        for (head, keys) in keys.chunks_exact(dim).enumerate() {
            self.keys.put(head * head_len + place, keys);
        }
        for (head, values) in values.chunks_exact(dim).enumerate() {
            self.values.put(head * head_len + place, values);
        }
    }

    /// One row's attention over the positions that it sees; `scores` has room for the
    /// positions of the cache for each of as many query heads as are computed at once. Each head of the block
    /// may have a sink: one more score, which takes its part and gives nothing.
    pub(crate) fn attend(
        &self,
        shape: &BlockShape,
        positions: Range<usize>,
        queries: &[f32],
        sinks: Option<&[f32]>,
        scores: &mut [f32],
        out: &mut [f32],
    ) {
        let (dim, room) = (shape.head_dim, shape.positions);
        let places = shape.places(positions.clone());
        let values = if shape.kept_values() { &self.values } else { &self.keys };
        let (group, heads) = (shape.heads / shape.kv_heads, shape.own_heads());
        for (head, kv_head) in shape.own_kv_heads().enumerate() {
            let start = head * room;
            let seen =
                places.clone().map(|rows| (start + rows.start) * dim..(start + rows.end) * dim);
            let group = (kv_head * group).max(heads.start)..((kv_head + 1) * group).min(heads.end);
            let mut sinks = sinks.map(|sinks| sinks[group.clone()].iter());
            let group = (group.start - heads.start) * dim..(group.end - heads.start) * dim;
            let queries = queries[group.clone()].chunks(HEADS * dim);
            for (queries, out) in queries.zip(out[group].chunks_mut(HEADS * dim)) {
                let [before, behind] = seen.clone();
                self.keys.scores(before, queries, dim, scores, room);
                self.keys.scores(behind, queries, dim, &mut scores[places[0].len()..], room);
                let mut scales = [0.0; HEADS];
                let scales = &mut scales[..queries.len() / dim];
                for (scores, to) in scores.chunks_exact_mut(room).zip(&mut *scales) {
                    let sink = sinks.as_mut().and_then(|sinks| sinks.next().copied());
                    let scores = &mut scores[..positions.len()];
                    *to = 1.0 / weigh(shape, scores, sink);
                }
                values.mix(seen.clone(), scores, room, scales, out);
            }
        }
    }
}

/// Turns scores into weights, and returns what their sum divides by.
fn weigh(shape: &BlockShape, scores: &mut [f32], sink: Option<f32>) -> f32 {
    let scale = shape.attention_scale;
    if shape.attention_cap == 0.0 && sink.is_none() {
        return math::softmax(scores, scale);
    }
    math::scale(scores, scale);
    if shape.attention_cap != 0.0 {
        math::cap(scores, shape.attention_cap);
    }
    match sink {
        Some(sink) => math::softmax_with(scores, sink),
        None => math::softmax(scores, 1.0),
    }
}

/// Multiplies queries by the temperature of their position.
#[expect(clippy::cast_possible_truncation, reason = "rounding to f32 is meant")]
pub(crate) fn heat(shape: &BlockShape, position: usize, queries: &mut [f32]) {
    if shape.temperature != 0.0 {
        let position = position.saturating_add(shape.temperature_offset);
        let step = (position / shape.temperature_length) as f64;
        let heat = 1.0 + f64::from(shape.temperature) * libm::log(1.0 + step);
        math::scale(queries, heat as f32);
    }
}

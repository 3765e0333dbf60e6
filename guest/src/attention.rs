//! Causal attention over the cache of keys and values.

use core::ops::Range;

pub(crate) use polychord_abi::buffers::ROWS;

use crate::cache::KvBuffer;
use crate::kernels::{self, HEADS};
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

/// Rows that attend together: at most [`ROWS`], which follow each other, and whose keys and values are stored.
pub(crate) struct Rows<'a> {
    /// Their positions.
    pub(crate) positions: Range<usize>,
    /// Behind the last position of the sequence.
    pub(crate) end: usize,
    /// `[rows][heads][head_dim]`, for the heads of this instance.
    pub(crate) queries: &'a [f32],
    /// For each head of the block one more score, which takes its part and gives nothing.
    pub(crate) sinks: Option<&'a [f32]>,
}

/// What attention writes in between.
pub(crate) struct Work<'a> {
    /// For each row the positions of the cache, for each head that is computed at once.
    pub(crate) scores: &'a mut [f32],
    /// For what a cache does not store as floats, at least one position of a head.
    pub(crate) room: &'a mut [f32],
    /// Whether values are touched ahead of their use.
    pub(crate) touch: bool,
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

    /// What rows attend to: `[rows][heads][head_dim]`, as their queries.
    pub(crate) fn attend(
        &self,
        shape: &BlockShape,
        rows: &Rows<'_>,
        work: &mut Work<'_>,
        out: &mut [f32],
    ) {
        let (group, own) = (shape.heads / shape.kv_heads, shape.own_heads());
        for (kv_head, of_all) in shape.own_kv_heads().enumerate() {
            let heads = (of_all * group).max(own.start)..((of_all + 1) * group).min(own.end);
            for first in heads.clone().step_by(HEADS) {
                let heads = first..heads.end.min(first + HEADS);
                Turn { cache: self, shape, rows, kv_head, heads }.run(work, out);
            }
        }
    }
}

/// Some heads of all rows, which share keys and values.
///
/// These are taken in blocks that stay in a first-level cache while all rows use them. Sums have the one
/// order all the same.
struct Turn<'a> {
    cache: &'a Cache,
    shape: &'a BlockShape,
    rows: &'a Rows<'a>,
    /// Where keys and values are, among those of this instance.
    kv_head: usize,
    /// Of all heads of the block.
    heads: Range<usize>,
}

impl Turn<'_> {
    fn run(&self, work: &mut Work<'_>, out: &mut [f32]) {
        self.score(work);
        let mut scales = [[0.0; HEADS]; ROWS];
        for (row, scales) in self.rows.numbers().zip(&mut scales) {
            self.weigh(row, scales, work.scores);
        }
        self.mix(&scales, work, out);
    }

    /// Multiplies keys with queries.
    fn score(&self, work: &mut Work<'_>) {
        let dim = self.shape.head_dim;
        for block in self.blocks(work.room.len()) {
            let keys = self.cache.keys.floats(self.stored(&block), work.room);
            for row in self.rows.numbers() {
                let Some((part, at)) = block.seen(&self.seen(row)) else { continue };
                let queries = &self.rows.queries[self.numbers(row)];
                let scores = &mut work.scores[self.scores(row) + at..];
                let keys = &keys[part.start * dim..part.end * dim];
                kernels::scores(keys, queries, dim, scores, self.shape.positions);
            }
        }
    }

    /// Turns the scores of a row into weights, and says what each head is multiplied by for their sum.
    fn weigh(&self, row: usize, scales: &mut [f32], scores: &mut [f32]) {
        let seen = self.seen(row).len();
        let scores = scores[self.scores(row)..].chunks_mut(self.shape.positions);
        for (head, (scores, scale)) in self.heads.clone().zip(scores.zip(scales)) {
            let sink = self.rows.sinks.map(|sinks| sinks[head]);
            *scale = 1.0 / weigh(self.shape, &mut scores[..seen], sink);
        }
    }

    /// Adds values up, as many times as weights say.
    fn mix(&self, scales: &[[f32; HEADS]; ROWS], work: &mut Work<'_>, out: &mut [f32]) {
        let (dim, heads) = (self.shape.head_dim, self.heads.len());
        let cache = self.cache;
        let values = if self.shape.kept_values() { &cache.values } else { &cache.keys };
        for row in self.rows.numbers() {
            out[self.numbers(row)].fill(0.0);
        }
        for block in self.blocks(work.room.len()) {
            let stored = self.stored(&block);
            if work.touch {
                values.touch(stored.clone());
            }
            let values = values.floats(stored, work.room);
            for row in self.rows.numbers() {
                let Some((part, at)) = block.seen(&self.seen(row)) else { continue };
                let weights = &work.scores[self.scores(row) + at..];
                let values = &values[part.start * dim..part.end * dim];
                let out = &mut out[self.numbers(row)];
                kernels::mix(values, weights, self.shape.positions, heads, out);
            }
        }
        for (row, scales) in self.rows.numbers().zip(scales) {
            kernels::scale_heads(&scales[..heads], &mut out[self.numbers(row)]);
        }
    }

    /// The positions that a row attends to.
    fn seen(&self, row: usize) -> Range<usize> {
        self.shape.seen(self.rows.positions.start + row, self.rows.end)
    }

    /// All positions that rows attend to, as far as there is room for what they are expanded to.
    fn blocks(&self, room: usize) -> impl Iterator<Item = Block> + use<> {
        let positions = self.shape.positions;
        let most = ((room / self.shape.head_dim) & !3).clamp(1, BLOCK);
        let last = self.rows.positions.len() - 1;
        let (mut at, end) = (self.seen(0).start, self.seen(last).end);
        core::iter::from_fn(move || {
            let place = at % positions;
            let len = most.min(end - at).min(positions - place);
            let block = Block { positions: at..at + len, place };
            at += len;
            (len > 0).then_some(block)
        })
    }

    /// Where the keys or values of a block are.
    fn stored(&self, block: &Block) -> Range<usize> {
        let dim = self.shape.head_dim;
        let start = (self.kv_head * self.shape.positions + block.place) * dim;
        start..start + block.positions.len() * dim
    }

    /// Where the numbers of a row's heads are, among those of all rows.
    fn numbers(&self, row: usize) -> Range<usize> {
        let (own, dim) = (self.shape.own_heads(), self.shape.head_dim);
        let first = row * own.len() + self.heads.start - own.start;
        first * dim..(first + self.heads.len()) * dim
    }

    /// Where the scores of a row begin.
    fn scores(&self, row: usize) -> usize {
        row * self.heads.len() * self.shape.positions
    }
}

impl Rows<'_> {
    fn numbers(&self) -> Range<usize> {
        0..self.positions.len()
    }
}

/// Most positions that are taken together.
const BLOCK: usize = 64;

/// Positions that follow each other in the cache, too.
struct Block {
    positions: Range<usize>,
    /// Where the first one is.
    place: usize,
}

impl Block {
    /// Which of them are among those that a row sees, if any, and where in these they begin.
    fn seen(&self, seen: &Range<usize>) -> Option<(Range<usize>, usize)> {
        let start = self.positions.start.max(seen.start);
        let end = self.positions.end.min(seen.end);
        let first = self.positions.start;
        (start < end).then(|| (start - first..end - first, start - seen.start))
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

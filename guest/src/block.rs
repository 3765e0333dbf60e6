//! One block: attention, and the feed-forward part.

use core::ops::Range;

use polychord_abi::transformer::{feature, role};

use crate::attention::Cache;
use crate::buffers::Buffers;
use crate::host::Layers;
use crate::kernels::Input;
use crate::math;
use crate::model::{Block, BlockShape, Stored};
use crate::products::{add_bias, norm_rows, norm_with_bias, product};
use crate::ranks::Stack;
use crate::stage::{Stage, activation};
use crate::{Status, experts};

/// Which matrix a projection is a part of, with its bias: from which row on.
struct Projection<'a> {
    weights: &'a Stored,
    bias: Option<&'a Stored>,
    first: usize,
}

impl Stage<'_> {
    /// Runs a block.
    pub(crate) fn run(
        &self,
        block: &Block,
        cache: &mut Cache,
        buffers: &mut Buffers,
    ) -> Result<(), Status> {
        let layers = Layers::new();
        self.attention(block, &layers, cache, buffers)?;
        self.feed_forward(block, &layers, buffers)
    }

    /// The first half of a block.
    pub(crate) fn attention(
        &self,
        block: &Block,
        layers: &Layers,
        cache: &mut Cache,
        buffers: &mut Buffers,
    ) -> Result<(), Status> {
        let (its, n) = (&block.shape, self.n);
        self.norm(block, role::ATTN_NORM, layers, buffers)?;
        let all_heads = self.shape.share.heads(its.heads, its.head_dim, n);
        if its.has(feature::ROW_NORMS) {
            self.project_normed_rows(block, layers, buffers)?;
        } else if !its.own_heads().is_empty() {
            self.project(block, layers, buffers)?;
        }
        if !its.own_heads().is_empty() {
            self.attend(block, layers, cache, buffers, &all_heads)?;
        }
        let attended = &mut buffers.attended[..n * its.query_len];
        let attended = all_heads.gather_rows(attended, buffers.queries)?;
        let mut attended = Input::new(attended, buffers.integers.as_mut());
        let output = block.get(role::ATTN_OUTPUT)?;
        let bias = block.find(role::ATTN_OUTPUT_BIAS);
        let (residual, scratch) = (&mut *buffers.residual, &mut *buffers.scratch);
        let stack = self.project_back(output, bias, layers, &mut attended, residual, scratch)?;
        self.add(&stack, block, role::ATTN_POST_NORM, layers, buffers)?;
        self.norm_sum(block, [role::ATTN_SUM_NORM, role::ATTN_SUM_NORM_BIAS], layers, buffers)
    }

    /// The second half of a block.
    pub(crate) fn feed_forward(
        &self,
        block: &Block,
        layers: &Layers,
        buffers: &mut Buffers,
    ) -> Result<(), Status> {
        self.enter_feed_forward(block, layers, buffers)?;
        let stack = if block.shape.has(feature::EXPERTS) {
            experts::run(self, block, layers, buffers)?
        } else {
            self.dense(block, layers, buffers)?
        };
        self.leave_feed_forward(&stack, block, layers, buffers)
    }

    /// What the feed-forward part is computed from.
    pub(crate) fn enter_feed_forward(
        &self,
        block: &Block,
        layers: &Layers,
        buffers: &mut Buffers,
    ) -> Result<(), Status> {
        // Else it is what the attention got.
        if block.shape.has(feature::PARALLEL) {
            return Ok(());
        }
        self.norm(block, role::FFN_NORM, layers, buffers)
    }

    /// Adds what the feed-forward part gave.
    pub(crate) fn leave_feed_forward(
        &self,
        stack: &Stack,
        block: &Block,
        layers: &Layers,
        buffers: &mut Buffers,
    ) -> Result<(), Status> {
        self.add(stack, block, role::FFN_POST_NORM, layers, buffers)?;
        self.norm_sum(block, [role::FFN_SUM_NORM, role::FFN_SUM_NORM_BIAS], layers, buffers)?;
        if let Some(scale) = block.find(role::BLOCK_SCALE) {
            let to = &mut buffers.scratch[..1];
            scale.expand(layers, 0, to)?;
            math::scale(&mut buffers.hidden[..self.n * self.shape.dim], to[0]);
        }
        Ok(())
    }

    /// What is computed from the hidden state: normalized, if the block has such a norm.
    fn norm(
        &self,
        block: &Block,
        role: u32,
        layers: &Layers,
        buffers: &mut Buffers,
    ) -> Result<(), Status> {
        let len = self.n * self.shape.dim;
        let normed = &mut buffers.normed[..len];
        normed.copy_from_slice(&buffers.hidden[..len]);
        let Some(norm) = block.find(role) else { return Ok(()) };
        let weight = &mut buffers.scratch[..self.shape.dim];
        let is_layer_norm = block.shape.has(feature::LAYER_NORM);
        norm_rows(norm, layers, normed, weight, self.shape.epsilon, is_layer_norm)
    }

    /// Queries, keys and values of this rank's heads.
    fn project(&self, block: &Block, layers: &Layers, buffers: &mut Buffers) -> Result<(), Status> {
        let (its, n) = (&block.shape, self.n);
        let mut normed =
            Input::new(&buffers.normed[..n * self.shape.dim], buffers.integers.as_mut());
        let (heads, kv_heads) = (its.own_heads(), its.own_kv_heads());
        let scratch = &mut *buffers.scratch;
        let mut to = |projection: Projection<'_>, heads: &Range<usize>, to: &mut [f32]| {
            let rows = heads.start * its.head_dim..heads.end * its.head_dim;
            let to = &mut to[..n * rows.len()];
            projection.multiply(layers, rows, &mut normed, to, scratch)
        };
        let ([queries, keys], values) = projections(block)?;
        to(queries, &heads, buffers.queries)?;
        to(keys, &kv_heads, buffers.keys)?;
        match values {
            Some(values) => to(values, &kv_heads, buffers.values),
            None => Ok(()),
        }
    }

    /// Queries, keys and values, where all queries, and all keys, are normalized as one vector:
    /// each rank needs all of them before it takes its own.
    fn project_normed_rows(
        &self,
        block: &Block,
        layers: &Layers,
        buffers: &mut Buffers,
    ) -> Result<(), Status> {
        let (its, n, dim) = (&block.shape, self.n, block.shape.head_dim);
        let mut normed =
            Input::new(&buffers.normed[..n * self.shape.dim], buffers.integers.as_mut());
        let scratch = &mut *buffers.scratch;
        let ([queries, keys], values) = projections(block)?;
        let norms = [role::ATTN_Q_ROW_NORM, role::ATTN_K_ROW_NORM];
        for (projection, norm, heads, own, to, spare) in [
            (
                queries,
                norms[0],
                its.heads,
                its.own_heads(),
                &mut *buffers.queries,
                &mut *buffers.attended,
            ),
            (
                keys,
                norms[1],
                its.kv_heads,
                its.own_kv_heads(),
                &mut *buffers.keys,
                &mut *buffers.values,
            ),
        ] {
            let all = self.shape.share.heads(heads, dim, n);
            let stacked = &mut spare[..n * heads * dim];
            let part = self.shape.share.own(heads);
            let part = part.start * dim..part.end * dim;
            projection.multiply(layers, part, &mut normed, all.own(stacked), scratch)?;
            all.gather(stacked)?;
            let rows = &mut to[..stacked.len()];
            all.for_each(|from, to| rows[to].copy_from_slice(&stacked[from]));
            let weight = &mut scratch[..heads * dim];
            norm_rows(block.get(norm)?, layers, rows, weight, self.shape.epsilon, false)?;
            // Moves to the front, row by row.
            for row in 0..n {
                let from = (row * heads + own.start) * dim..(row * heads + own.end) * dim;
                rows.copy_within(from, row * own.len() * dim);
            }
        }
        let Some(values) = values else { return Ok(()) };
        let own = its.own_kv_heads();
        let rows = own.start * dim..own.end * dim;
        let to = &mut buffers.values[..n * rows.len()];
        values.multiply(layers, rows, &mut normed, to, scratch)
    }

    /// Lets this rank's heads attend, row by row, as keys and values go to the cache.
    fn attend(
        &self,
        block: &Block,
        layers: &Layers,
        cache: &mut Cache,
        buffers: &mut Buffers,
        all_heads: &Stack,
    ) -> Result<(), Status> {
        let (its, n, dim) = (&block.shape, self.n, block.shape.head_dim);
        let (heads, kv_heads) = (its.own_heads().len(), its.own_kv_heads().len());
        let queries = &mut buffers.queries[..n * heads * dim];
        let keys = &mut buffers.keys[..n * kv_heads * dim];
        let values = &mut buffers.values[..n * kv_heads * dim];
        if its.has(feature::KEYS_AS_VALUES) {
            values.copy_from_slice(keys);
        }
        let unit = |rows: &mut [f32]| {
            rows.chunks_exact_mut(dim).for_each(|head| math::unit_norm(head, self.shape.epsilon));
        };
        if its.has(feature::VALUE_NORMS) {
            unit(values);
        }
        let rope = its.rope.and_then(|rope| self.ropes.get(rope));
        let rotate = |queries: &mut [f32], keys: &mut [f32]| {
            let Some(rope) = rope else { return };
            for (row, queries) in queries.chunks_exact_mut(heads * dim).enumerate() {
                rope.rotate(row, queries, dim);
            }
            for (row, keys) in keys.chunks_exact_mut(kv_heads * dim).enumerate() {
                rope.rotate(row, keys, dim);
            }
        };
        let is_late = its.has(feature::LATE_NORMS);
        if is_late {
            rotate(queries, keys);
        }
        for (norm, rows) in [(role::ATTN_Q_NORM, &mut *queries), (role::ATTN_K_NORM, &mut *keys)] {
            if let Some(norm) = block.find(norm) {
                let weight = &mut buffers.scratch[..dim];
                norm_rows(norm, layers, rows, weight, self.shape.epsilon, false)?;
            }
        }
        if !is_late {
            rotate(queries, keys);
        }
        if its.has(feature::UNIT_NORMS) {
            unit(queries);
            unit(keys);
        }
        let sinks = match block.find(role::ATTN_SINKS) {
            Some(sinks) => {
                let all = &mut buffers.scratch[..its.heads];
                sinks.expand(layers, 0, all)?;
                Some(&*all)
            }
            None => None,
        };
        let attended = all_heads.own(&mut buffers.attended[..n * its.query_len]);
        let rows =
            queries.chunks_exact_mut(heads * dim).zip(attended.chunks_exact_mut(heads * dim));
        let new = keys.chunks_exact(kv_heads * dim).zip(values.chunks_exact(kv_heads * dim));
        let end = self.position + n;
        if its.has(feature::ENCODER) {
            for (position, (keys, values)) in (self.position..end).zip(new.clone()) {
                cache.put(its, position, keys, values);
            }
        }
        let positions = self.position..end;
        for ((position, (queries, attended)), (keys, values)) in positions.zip(rows).zip(new) {
            heat(its, position, queries);
            if !its.has(feature::ENCODER) {
                cache.put(its, position, keys, values);
            }
            let seen = its.seen(position, end);
            cache.attend(its, seen, queries, sinks, buffers.scores, attended);
        }
        Ok(())
    }

    /// The feed-forward part that is one for all tokens.
    fn dense(
        &self,
        block: &Block,
        layers: &Layers,
        buffers: &mut Buffers,
    ) -> Result<Stack, Status> {
        let (its, n) = (&block.shape, self.n);
        let [gate, up] = match (block.find(role::FFN_GATE), block.find(role::FFN_GATE_UP)) {
            (_, Some(both)) => [Some((both, 0)), Some((both, its.ffn))],
            (Some(gate), None) => [Some((gate, 0)), Some((block.get(role::FFN_UP)?, 0))],
            (None, None) => [Some((block.get(role::FFN_UP)?, 0)), None],
        };
        let down = block.get(role::FFN_DOWN)?;
        let mut normed =
            Input::new(&buffers.normed[..n * self.shape.dim], buffers.integers.as_mut());
        let all = self.shape.share.rows(its.ffn, n);
        let own = self.shape.share.own(its.ffn);
        let mut multiply = |from: Option<(&Stored, usize)>, to: &mut [f32]| {
            let Some((weights, first)) = from else { return Ok(()) };
            let rows = first + own.start..first + own.end;
            product(weights, layers, rows, &mut normed, to, buffers.scratch)
        };
        let stacked = &mut buffers.gate[..n * its.ffn];
        let own_gate = all.own(stacked);
        multiply(gate, own_gate)?;
        let own_up = &mut buffers.up[..own_gate.len()];
        multiply(up, own_up)?;
        if let Some(bias) = block.find(role::FFN_UP_BIAS) {
            let to = if up.is_some() { &mut *own_up } else { &mut *own_gate };
            add_bias(bias, layers, 0, own.clone(), to, buffers.scratch)?;
        }
        match up {
            Some(_) => activation(its).gated(own_gate, own_up),
            None => activation(its).plain(own_gate),
        }
        let inner = all.gather_rows(stacked, buffers.up)?;
        let mut inner = Input::new(inner, buffers.integers.as_mut());
        let (residual, scratch) = (&mut *buffers.residual, &mut *buffers.scratch);
        let bias = block.find(role::FFN_DOWN_BIAS);
        self.project_back(down, bias, layers, &mut inner, residual, scratch)
    }

    /// The product of a matrix with as many rows as the hidden state is wide, stacked.
    fn project_back(
        &self,
        weights: &Stored,
        bias: Option<&Stored>,
        layers: &Layers,
        x: &mut Input<'_>,
        residual: &mut [f32],
        scratch: &mut [f32],
    ) -> Result<Stack, Status> {
        let (share, dim) = (self.shape.share, self.shape.dim);
        let (own, all) = (share.own(dim), share.rows(dim, self.n));
        let residual = &mut residual[..self.n * dim];
        let to = all.own(residual);
        Projection { weights, bias, first: 0 }.multiply(layers, own, x, to, scratch)?;
        all.gather(residual)?;
        Ok(all)
    }

    /// Adds what a half of the block gave to the hidden state.
    fn add(
        &self,
        stack: &Stack,
        block: &Block,
        norm: u32,
        layers: &Layers,
        buffers: &mut Buffers,
    ) -> Result<(), Status> {
        let len = self.n * self.shape.dim;
        let (hidden, residual) = (&mut buffers.hidden[..len], &mut buffers.residual[..len]);
        let scale = self.shape.residual_scale;
        let Some(norm) = block.find(norm) else {
            math::scale(residual, scale);
            stack.for_each(|from, to| math::add(&mut hidden[to], &residual[from]));
            return Ok(());
        };
        let rows = &mut buffers.normed[..len];
        stack.for_each(|from, to| rows[to].copy_from_slice(&residual[from]));
        let weight = &mut buffers.scratch[..self.shape.dim];
        let is_layer_norm = block.shape.has(feature::LAYER_NORM);
        norm_rows(norm, layers, rows, weight, self.shape.epsilon, is_layer_norm)?;
        math::scale(rows, scale);
        math::add(hidden, rows);
        Ok(())
    }
}

impl Stage<'_> {
    /// Normalizes the hidden state, to which a half of the block was added, if the block does so.
    fn norm_sum(
        &self,
        block: &Block,
        [norm, bias]: [u32; 2],
        layers: &Layers,
        buffers: &mut Buffers,
    ) -> Result<(), Status> {
        let Some(norm) = block.find(norm) else { return Ok(()) };
        let rows = &mut buffers.hidden[..self.n * self.shape.dim];
        let both = (norm, block.get(bias)?);
        norm_with_bias(both, layers, rows, buffers.scratch, self.shape.epsilon)
    }
}

impl Projection<'_> {
    /// The product of some of its rows, with their biases.
    fn multiply(
        &self,
        layers: &Layers,
        rows: Range<usize>,
        x: &mut Input<'_>,
        y: &mut [f32],
        scratch: &mut [f32],
    ) -> Result<(), Status> {
        let rows = self.first + rows.start..self.first + rows.end;
        product(self.weights, layers, rows.clone(), x, y, scratch)?;
        match self.bias {
            Some(bias) => add_bias(bias, layers, 0, rows, y, scratch),
            None => Ok(()),
        }
    }
}

/// Where queries and keys are, and values, unless those are the keys: in a matrix each, or in one.
fn projections(block: &Block) -> Result<([Projection<'_>; 2], Option<Projection<'_>>), Status> {
    let its = &block.shape;
    if let Some(weights) = block.find(role::ATTN_QKV) {
        let bias = block.find(role::ATTN_QKV_BIAS);
        let keys = its.kv_heads * its.head_dim;
        let part = |first| Projection { weights, bias, first };
        return Ok(([part(0), part(its.query_len)], Some(part(its.query_len + keys))));
    }
    let of = |weights, bias| {
        let (weights, bias) = (block.get(weights)?, block.find(bias));
        Ok::<_, Status>(Projection { weights, bias, first: 0 })
    };
    let values = match its.has(feature::KEYS_AS_VALUES) {
        true => None,
        false => Some(of(role::ATTN_V, role::ATTN_V_BIAS)?),
    };
    let queries = of(role::ATTN_Q, role::ATTN_Q_BIAS)?;
    Ok(([queries, of(role::ATTN_K, role::ATTN_K_BIAS)?], values))
}

/// Multiplies queries by the temperature of their position.
#[expect(clippy::cast_possible_truncation, reason = "rounding to f32 is meant")]
fn heat(shape: &BlockShape, position: usize, queries: &mut [f32]) {
    if shape.temperature != 0.0 {
        let position = position.saturating_add(shape.temperature_offset);
        let step = (position / shape.temperature_length) as f64;
        let heat = 1.0 + f64::from(shape.temperature) * libm::log(1.0 + step);
        math::scale(queries, heat as f32);
    }
}

//! One block: attention, and the feed-forward part.

use core::ops::Range;

use polychord_abi::transformer::{feature, role, status};

use crate::attention::{Cache, ROWS, Rows, Work, heat};
use crate::buffers::Buffers;
use crate::host::Layers;
use crate::kept::Memory;
use crate::kernels::Input;
use crate::math;
use crate::model::{Block, Stored};
use crate::products::{add_bias, norm_rows, norm_with_bias, product};
use crate::ranks::Stack;
use crate::stage::{Stage, activation};
use crate::{Status, delta_net, experts, inputs, latent, short_conv};

/// Numbers that no cache of a processor is sure to keep from one token to the next: 32 MiB as floats.
const STREAMED: usize = 8 << 20;

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
        memory: Memory<'_>,
        buffers: &mut Buffers,
    ) -> Result<(), Status> {
        let layers = Layers::new();
        self.attention(block, &layers, memory, buffers)?;
        self.feed_forward(block, &layers, buffers)
    }

    /// The first half of a block: attention, or what stands in its place.
    pub(crate) fn attention(
        &self,
        block: &Block,
        layers: &Layers,
        memory: Memory<'_>,
        buffers: &mut Buffers,
    ) -> Result<(), Status> {
        self.enter_attention(block, layers, buffers)?;
        self.mix(block, layers, memory, buffers)?;
        self.leave_attention(block, layers, buffers)
    }

    /// What comes before positions meet: it needs each row alone.
    pub(crate) fn enter_attention(
        &self,
        block: &Block,
        layers: &Layers,
        buffers: &mut Buffers,
    ) -> Result<(), Status> {
        let its = &block.shape;
        self.norm(block, role::ATTN_NORM, layers, buffers)?;
        if its.has(feature::SHORT_CONV) {
            short_conv::enter(self, block, layers, buffers)
        } else if its.has(feature::DELTA_NET) {
            delta_net::enter(self, block, layers, buffers)
        } else if its.has(feature::LATENT) {
            latent::enter(self, block, layers, buffers)
        } else if its.has(feature::ROW_NORMS) {
            self.project_normed_rows(block, layers, buffers)
        } else if its.own_heads().is_empty() {
            Ok(())
        } else {
            self.project(block, layers, buffers)
        }
    }

    /// Where positions meet: rows are of one sequence, and follow each other.
    pub(crate) fn mix(
        &self,
        block: &Block,
        layers: &Layers,
        memory: Memory<'_>,
        buffers: &mut Buffers,
    ) -> Result<(), Status> {
        let its = &block.shape;
        if its.has(feature::SHORT_CONV) {
            return short_conv::mix(self, block, layers, memory.state()?, buffers);
        }
        if its.has(feature::DELTA_NET) {
            return delta_net::mix(self, block, layers, memory.state()?, buffers);
        }
        let cache = memory.rows()?;
        if its.own_heads().is_empty() {
            return Ok(());
        }
        if its.has(feature::LATENT) {
            latent::mix(self, block, cache, buffers);
            return Ok(());
        }
        self.attend(block, layers, cache, buffers)
    }

    /// What follows, and is added to the hidden state: it needs each row alone again.
    pub(crate) fn leave_attention(
        &self,
        block: &Block,
        layers: &Layers,
        buffers: &mut Buffers,
    ) -> Result<(), Status> {
        let its = &block.shape;
        let stack = if its.has(feature::SHORT_CONV) {
            short_conv::leave(self, block, layers, buffers)?
        } else if its.has(feature::DELTA_NET) {
            delta_net::leave(self, block, layers, buffers)?
        } else if its.has(feature::LATENT) {
            latent::leave(self, block, layers, buffers)?
        } else {
            self.leave_heads(block, layers, buffers)?
        };
        self.add(&stack, block, role::ATTN_POST_NORM, layers, buffers)?;
        self.norm_sum(block, [role::ATTN_SUM_NORM, role::ATTN_SUM_NORM_BIAS], layers, buffers)
    }

    /// The product of what heads have attended to.
    fn leave_heads(
        &self,
        block: &Block,
        layers: &Layers,
        buffers: &mut Buffers,
    ) -> Result<Stack, Status> {
        let (its, n) = (&block.shape, self.n);
        let all_heads = self.shape.share.heads(its.heads, its.head_dim, n);
        let attended = &mut buffers.attended[..n * its.query_len];
        let attended = all_heads.gather_rows(attended, buffers.queries)?;
        let mut attended = Input::new(attended, buffers.integers.as_mut());
        let output = block.get(role::ATTN_OUTPUT)?;
        let bias = block.find(role::ATTN_OUTPUT_BIAS);
        let (residual, scratch) = (&mut *buffers.residual, &mut *buffers.scratch);
        self.project_back(output, bias, layers, &mut attended, residual, scratch)
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
            self.enter_experts(block, layers, buffers)?;
            let all = 0..self.n * block.shape.experts_used;
            experts::compute(self, block, layers, buffers, all)?;
            self.leave_experts(block, layers, buffers)?
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
        if block.shape.has(feature::LAYER_INPUTS) {
            let stack = inputs::run(self, block, layers, buffers)?;
            self.add(&stack, block, role::INPUT_NORM, layers, buffers)?;
        }
        if let Some(scale) = block.find(role::BLOCK_SCALE) {
            let to = &mut buffers.scratch[..1];
            scale.expand(layers, 0, to)?;
            math::scale(&mut buffers.hidden[..self.n * self.shape.dim], to[0]);
        }
        Ok(())
    }

    /// Lets rows choose experts, and lines up what these compute from. What stands beside the
    /// experts, with norms of its own, is computed first.
    pub(crate) fn enter_experts(
        &self,
        block: &Block,
        layers: &Layers,
        buffers: &mut Buffers,
    ) -> Result<(), Status> {
        if block.shape.has(feature::DENSE_BESIDE) {
            let (dim, epsilon) = (self.shape.dim, self.shape.epsilon);
            let len = self.n * dim;
            let stack = self.dense(block, layers, buffers)?;
            let dense = &mut buffers.mixed[..len];
            stack.for_each(|from, to| dense[to].copy_from_slice(&buffers.residual[from]));
            let weight = &mut buffers.scratch[..dim];
            let norm = block.get(role::DENSE_POST_NORM)?;
            norm_rows(norm, layers, dense, weight, epsilon, false)?;
            // Experts are chosen by the hidden state with a norm of their router's.
            self.norm(block, role::ROUTER_SCALE, layers, buffers)?;
            math::scale(&mut buffers.normed[..len], 1.0 / libm::sqrtf(dim as f32));
            experts::choose_all(self, block, layers, buffers)?;
            self.norm(block, role::EXPERT_NORM, layers, buffers)?;
        } else {
            experts::choose_all(self, block, layers, buffers)?;
        }
        experts::line_up(self, &block.shape, buffers);
        Ok(())
    }

    /// What experts gave, all of which have computed, with what stands beside them.
    pub(crate) fn leave_experts(
        &self,
        block: &Block,
        layers: &Layers,
        buffers: &mut Buffers,
    ) -> Result<Stack, Status> {
        let stack = experts::combine(self, block, layers, buffers)?;
        if block.shape.has(feature::DENSE_BESIDE) {
            let (dim, epsilon) = (self.shape.dim, self.shape.epsilon);
            let sum = &mut buffers.residual[..self.n * dim];
            let weight = &mut buffers.scratch[..dim];
            norm_rows(block.get(role::EXPERT_POST_NORM)?, layers, sum, weight, epsilon, false)?;
            math::add(sum, &buffers.mixed[..self.n * dim]);
        }
        Ok(stack)
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
        if let Some(gated) = block.find(role::ATTN_Q_GATED) {
            self.project_gated(gated, block, layers, buffers)?;
        }
        let mut normed =
            Input::new(&buffers.normed[..n * self.shape.dim], buffers.integers.as_mut());
        let (heads, kv_heads) = (its.own_heads(), its.own_kv_heads());
        let scratch = &mut *buffers.scratch;
        let mut to = |projection: Projection<'_>, heads: &Range<usize>, to: &mut [f32]| {
            let rows = heads.start * its.head_dim..heads.end * its.head_dim;
            let to = &mut to[..n * rows.len()];
            projection.multiply(layers, rows, &mut normed, to, scratch)
        };
        let Projections { queries, keys, values } = projections(block)?;
        if let Some(queries) = queries {
            to(queries, &heads, buffers.queries)?;
        }
        if let Some(keys) = keys {
            to(keys, &kv_heads, buffers.keys)?;
        }
        if let Some(values) = values {
            to(values, &kv_heads, buffers.values)?;
        }
        Ok(())
    }

    /// Queries of this rank's heads, each of which has a gate behind it: in the buffer `mixed`, and
    /// without the gates in `queries`.
    fn project_gated(
        &self,
        weights: &Stored,
        block: &Block,
        layers: &Layers,
        buffers: &mut Buffers,
    ) -> Result<(), Status> {
        let (its, n, heads) = (&block.shape, self.n, block.shape.own_heads());
        let width = 2 * its.head_dim;
        let mut normed =
            Input::new(&buffers.normed[..n * self.shape.dim], buffers.integers.as_mut());
        let mixed = &mut buffers.mixed[..n * heads.len() * width];
        let rows = heads.start * width..heads.end * width;
        product(weights, layers, rows, &mut normed, mixed, buffers.scratch)?;
        let queries = buffers.queries.chunks_exact_mut(its.head_dim);
        for (query, both) in queries.zip(mixed.chunks_exact(width)) {
            query.copy_from_slice(&both[..its.head_dim]);
        }
        Ok(())
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
        let Projections { queries, keys, values } = projections(block)?;
        let missing = status::MISSING_TENSOR;
        let (queries, keys) = (queries.ok_or(missing)?, keys.ok_or(missing)?);
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

    /// Lets this rank's heads attend, some rows at a time, as keys and values go to the cache.
    fn attend(
        &self,
        block: &Block,
        layers: &Layers,
        cache: &mut Cache,
        buffers: &mut Buffers,
    ) -> Result<(), Status> {
        let (its, n, dim) = (&block.shape, self.n, block.shape.head_dim);
        let all_heads = self.shape.share.heads(its.heads, dim, n);
        let (heads, kv_heads) = (its.own_heads().len(), its.own_kv_heads().len());
        let queries = &mut buffers.queries[..n * heads * dim];
        let keys = &mut buffers.keys[..n * kv_heads * dim];
        let values = &mut buffers.values[..n * kv_heads * dim];
        let has_keys = !its.has(feature::SHARED_KEYS);
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
            if has_keys {
                for (row, keys) in keys.chunks_exact_mut(kv_heads * dim).enumerate() {
                    rope.rotate(row, keys, dim);
                }
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
        let (sinks, room) = buffers.scratch.split_at_mut(its.heads);
        let sinks = match block.find(role::ATTN_SINKS) {
            Some(stored) => {
                stored.expand(layers, 0, sinks)?;
                Some(&*sinks)
            }
            None => None,
        };
        let end = self.position + n;
        let new = keys.chunks_exact(kv_heads * dim).zip(values.chunks_exact(kv_heads * dim));
        let mut new = (self.position..end).zip(new);
        // All of an encoder's rows see each other.
        let first = if its.has(feature::ENCODER) { n } else { 0 };
        for (position, (keys, values)) in new.by_ref().take(first) {
            cache.put(its, position, keys, values);
        }
        // Keys and values of all blocks, if each has as many.
        let kept = (2 * kv_heads * dim).saturating_mul(self.position * self.shape.blocks);
        let mut work = Work { scores: buffers.scores, room, touch: n == 1 && kept >= STREAMED };
        let attended = all_heads.own(&mut buffers.attended[..n * its.query_len]);
        let rows = queries.chunks_mut(ROWS * heads * dim);
        let rows = rows.zip(attended.chunks_mut(ROWS * heads * dim));
        for (position, (queries, attended)) in (self.position..end).step_by(ROWS).zip(rows) {
            let positions = position..end.min(position + ROWS);
            for (position, queries) in positions.clone().zip(queries.chunks_exact_mut(heads * dim))
            {
                heat(its, position, queries);
            }
            for (position, (keys, values)) in new.by_ref().take(positions.len()) {
                if has_keys {
                    cache.put(its, position, keys, values);
                }
            }
            let rows = Rows { positions, end, queries, sinks };
            cache.attend(its, &rows, &mut work, attended);
        }
        if its.has(feature::OUTPUT_GATE) {
            let attended = all_heads.own(&mut buffers.attended[..n * its.query_len]);
            let gates = buffers.mixed.chunks_exact_mut(2 * dim);
            for (attended, both) in attended.chunks_exact_mut(dim).zip(gates) {
                let gate = &mut both[dim..];
                math::logistic(gate);
                math::multiply(attended, gate);
            }
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
    pub(crate) fn project_back(
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

/// Where queries, keys and values are made: in a matrix each, or in one. None where queries have
/// gates, keys are those of another block, or values are the keys.
struct Projections<'a> {
    queries: Option<Projection<'a>>,
    keys: Option<Projection<'a>>,
    values: Option<Projection<'a>>,
}

fn projections(block: &Block) -> Result<Projections<'_>, Status> {
    let its = &block.shape;
    if let Some(weights) = block.find(role::ATTN_QKV) {
        let bias = block.find(role::ATTN_QKV_BIAS);
        let keys = its.kv_heads * its.head_dim;
        let part = |first| Some(Projection { weights, bias, first });
        let (queries, keys, values) = (part(0), part(its.query_len), part(its.query_len + keys));
        return Ok(Projections { queries, keys, values });
    }
    let of = |weights, bias, without: u64| {
        if its.has(without) {
            return Ok(None);
        }
        let (weights, bias) = (block.get(weights)?, block.find(bias));
        Ok::<_, Status>(Some(Projection { weights, bias, first: 0 }))
    };
    let others = feature::SHARED_KEYS;
    Ok(Projections {
        queries: of(role::ATTN_Q, role::ATTN_Q_BIAS, feature::OUTPUT_GATE)?,
        keys: of(role::ATTN_K, role::ATTN_K_BIAS, others)?,
        values: of(role::ATTN_V, role::ATTN_V_BIAS, others | feature::KEYS_AS_VALUES)?,
    })
}

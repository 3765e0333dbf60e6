//! The stages of a network: embedding, blocks, and output head.

use core::ops::Range;

use polychord_abi::transformer::{CacheRows, role, status};

use crate::attention::Cache;
use crate::caches::Caches;
use crate::host::Layers;
use crate::kernels::{Activations, Input, Output};
#[cfg(feature = "multi32")]
use crate::memories;
use crate::model::{Block, Description, Globals, Shape, Stored};
use crate::rope::Rope;
use crate::{Status, alloc, math};

/// A network, or the part of one that this instance holds, ready to run.
pub(crate) struct Network {
    shape: Shape,
    globals: Globals,
    blocks: &'static mut [Block],
    caches: Caches,
    rope: Rope,
    buffers: Buffers,
}

/// Everything that a call writes; sized once.
struct Buffers {
    tokens: &'static mut [u32],
    hidden: &'static mut [f32],
    normed: &'static mut [f32],
    queries: &'static mut [f32],
    keys: &'static mut [f32],
    values: &'static mut [f32],
    attended: &'static mut [f32],
    gate: &'static mut [f32],
    up: &'static mut [f32],
    residual: &'static mut [f32],
    scores: &'static mut [f32],
    scratch: &'static mut [f32],
    integers: Option<Activations>,
    logits: &'static mut [f32],
}

impl Network {
    /// Allocates all that a checked description needs.
    pub(crate) fn new(description: Description) -> Result<Self, Status> {
        #[cfg(feature = "multi32")]
        memories::prepare(description.longest_row())?;
        let Description { shape, globals, blocks, cache } = description;
        Ok(Self {
            caches: Caches::new(&shape, blocks.len(), cache)?,
            rope: Rope::new(&shape)?,
            buffers: Buffers::new(&shape)?,
            shape,
            globals,
            blocks,
        })
    }

    /// Begins anew after a call that was stopped: the cache has `position` positions.
    pub(crate) fn restart(&mut self, position: i32) -> Result<(), Status> {
        let position = usize::try_from(position).map_err(|_| status::CONTEXT_FULL)?;
        self.caches.truncate(position)?;
        self.rope.undo_divide();
        Ok(())
    }

    /// Where the keys (`index` even) or the values of a block are.
    pub(crate) fn cache_rows(&self, index: i32) -> Result<CacheRows, Status> {
        let index = usize::try_from(index).map_err(|_| status::BAD_BLOCK)?;
        if index / 2 >= self.blocks.len() {
            return Err(status::BAD_BLOCK);
        }
        self.caches.rows(&self.shape, index)
    }

    /// Goes on after `position` positions, whose keys and values the host has put into the caches.
    pub(crate) fn resume(&mut self, position: i32) -> Result<(), Status> {
        match usize::try_from(position) {
            Ok(position) if position <= self.shape.context => self.caches.resume(position),
            _ => Err(status::CONTEXT_FULL),
        }
    }

    /// Where the host writes token ids.
    pub(crate) fn tokens(&self) -> *const u32 {
        self.buffers.tokens.as_ptr()
    }

    /// The hidden state between stages.
    pub(crate) fn hidden(&self) -> *const f32 {
        self.buffers.hidden.as_ptr()
    }

    /// The result of [`head`](Self::head).
    pub(crate) fn logits(&self) -> *const f32 {
        self.buffers.logits.as_ptr()
    }

    /// Hidden state of the first `n` tokens.
    pub(crate) fn embed(&mut self, n: i32) -> Result<(), Status> {
        let n = self.rows(n)?;
        let table = *self.globals.get(role::TOKEN_EMBD)?;
        let tokens = &self.buffers.tokens[..n];
        if tokens.iter().any(|&token| token as usize >= self.shape.vocab) {
            return Err(status::BAD_TOKEN);
        }
        let layers = Layers::new();
        let rows = self.buffers.hidden.chunks_exact_mut(self.shape.dim);
        for (&token, row) in tokens.iter().zip(rows) {
            table.expand(&layers, token as usize, row)?;
        }
        Ok(())
    }

    /// Runs `count` blocks from number `first` of the network over `n` rows.
    ///
    /// Positions below `position` must be in the cache; those from there on are replaced.
    pub(crate) fn run(
        &mut self,
        first: i32,
        count: i32,
        position: i32,
        n: i32,
    ) -> Result<(), Status> {
        self.run_part(first, count, position, n, |stage, block, cache, buffers| {
            stage.block(block, cache, buffers)
        })
    }

    /// Runs one block's attention alone.
    pub(crate) fn attention(&mut self, block: i32, position: i32, n: i32) -> Result<(), Status> {
        self.run_part(block, 1, position, n, |stage, block, cache, buffers| {
            stage.attention(block, &Layers::new(), cache, buffers)
        })
    }

    /// One block's feed-forward part alone, over `n` rows.
    pub(crate) fn feed_forward(&mut self, block: i32, n: i32) -> Result<(), Status> {
        let n = self.rows(n)?;
        let (block, _) = self.range(block, 1)?;
        let stage = Stage { shape: &self.shape, rope: &self.rope, position: 0, n };
        stage.feed_forward(&self.blocks[block], &Layers::new(), &mut self.buffers)
    }

    fn run_part(
        &mut self,
        first: i32,
        count: i32,
        position: i32,
        n: i32,
        part: impl Fn(&Stage<'_>, &Block, &mut Cache, &mut Buffers) -> Result<(), Status>,
    ) -> Result<(), Status> {
        let n = self.rows(n)?;
        let (first, count) = self.range(first, count)?;
        let position = usize::try_from(position).map_err(|_| status::CONTEXT_FULL)?;
        if n > self.shape.context || position > self.shape.context - n {
            return Err(status::CONTEXT_FULL);
        }
        if (first..first + count).any(|block| self.caches.filled(block) < position) {
            return Err(status::BAD_ORDER);
        }
        self.prepare_rope(position, n)?;
        let stage = Stage { shape: &self.shape, rope: &self.rope, position, n };
        for block in first..first + count {
            let (weights, buffers) = (&self.blocks[block], &mut self.buffers);
            let positions = position..position + n;
            let fill = |cache: &mut _| part(&stage, weights, cache, buffers);
            self.caches.extend(block, positions, fill)?;
        }
        Ok(())
    }

    fn prepare_rope(&mut self, position: usize, n: usize) -> Result<(), Status> {
        // Once is enough; and not earlier, as its layer may not be there at `INIT`.
        if let Some(stored) = self.globals.find(role::ROPE_FREQS)
            && !self.rope.is_divided()
        {
            let factors = &mut self.buffers.scratch[..self.shape.rope_dim / 2];
            stored.expand(&Layers::new(), 0, factors)?;
            self.rope.divide(factors);
        }
        self.rope.prepare(position, n);
        Ok(())
    }

    /// Logits of one row of hidden state.
    pub(crate) fn head(&mut self, row: i32) -> Result<(), Status> {
        let row = usize::try_from(row).map_err(|_| status::BAD_BATCH)?;
        if row >= self.shape.batch {
            return Err(status::BAD_BATCH);
        }
        let norm = self.globals.get(role::OUTPUT_NORM)?;
        let output = if self.shape.tied { role::TOKEN_EMBD } else { role::OUTPUT };
        let output = self.globals.get(output)?;
        let buffers = &mut self.buffers;
        let dim = self.shape.dim;
        let hidden = &buffers.hidden[row * dim..][..dim];
        // Layers of one stage stay mapped together.
        let layers = Layers::new();
        let normed = &mut buffers.normed[..dim];
        norm_rows(
            norm,
            &layers,
            hidden,
            normed,
            &mut buffers.residual[..dim],
            self.shape.rms_epsilon,
        )?;
        let (share, vocab) = (self.shape.share, self.shape.vocab);
        let (own, all) = (share.own(vocab), share.rows(vocab, 1));
        let mut normed = Input::new(normed, buffers.integers.as_mut());
        product(output, &layers, own, &mut normed, all.own(buffers.logits), buffers.scratch)?;
        all.gather(buffers.logits)?;
        math::canonical_nan(buffers.logits);
        Ok(())
    }

    fn rows(&self, n: i32) -> Result<usize, Status> {
        match usize::try_from(n) {
            Ok(n) if n > 0 && n <= self.shape.batch => Ok(n),
            _ => Err(status::BAD_BATCH),
        }
    }

    /// The blocks as indices into this instance's own.
    fn range(&self, first: i32, count: i32) -> Result<(usize, usize), Status> {
        let first = usize::try_from(first).map_err(|_| status::BAD_BLOCK)?;
        let count = usize::try_from(count).map_err(|_| status::BAD_BLOCK)?;
        let first = first.checked_sub(self.shape.first_block).ok_or(status::BAD_BLOCK)?;
        if first > self.shape.blocks || count > self.shape.blocks - first {
            return Err(status::BAD_BLOCK);
        }
        Ok((first, count))
    }
}

impl Buffers {
    fn new(shape: &Shape) -> Result<Self, Status> {
        let lens = &shape.buffers;
        let floats = |len: u64| alloc::floats(alloc::len(len)?).ok_or(status::OUT_OF_MEMORY);
        Ok(Self {
            tokens: alloc::words(alloc::len(lens.tokens)?).ok_or(status::OUT_OF_MEMORY)?,
            hidden: floats(lens.hidden)?,
            normed: floats(lens.hidden)?,
            queries: floats(lens.queries)?,
            keys: floats(lens.keys)?,
            values: floats(lens.keys)?,
            attended: floats(lens.queries)?,
            gate: floats(lens.ffn)?,
            up: floats(lens.ffn)?,
            residual: floats(lens.hidden)?,
            scores: floats(lens.scores)?,
            scratch: floats(lens.scratch)?,
            integers: match &lens.integers {
                Some(lens) => Some(Activations::new(lens).ok_or(status::OUT_OF_MEMORY)?),
                None => None,
            },
            logits: floats(lens.logits)?,
        })
    }
}

/// What one call has in common for all of its blocks.
struct Stage<'a> {
    shape: &'a Shape,
    rope: &'a Rope,
    position: usize,
    n: usize,
}

impl Stage<'_> {
    fn block(&self, block: &Block, cache: &mut Cache, buffers: &mut Buffers) -> Result<(), Status> {
        let layers = Layers::new();
        self.attention(block, &layers, cache, buffers)?;
        self.feed_forward(block, &layers, buffers)
    }

    fn attention(
        &self,
        block: &Block,
        layers: &Layers,
        cache: &mut Cache,
        buffers: &mut Buffers,
    ) -> Result<(), Status> {
        let (shape, n, dim) = (self.shape, self.n, self.shape.head_dim);
        let (heads, kv_heads) = (shape.own_heads(), shape.own_kv_heads());
        let all_heads = shape.share.heads(shape.heads, dim, n);
        let hidden = &mut buffers.hidden[..n * shape.dim];
        let normed = &mut buffers.normed[..n * shape.dim];
        let attended = &mut buffers.attended[..n * shape.query_len];
        let scratch = &mut *buffers.scratch;

        let norm = block.get(role::ATTN_NORM)?;
        norm_rows(norm, layers, hidden, normed, &mut scratch[..shape.dim], shape.rms_epsilon)?;
        if !heads.is_empty() {
            let queries = &mut buffers.queries[..n * heads.len() * dim];
            let keys = &mut buffers.keys[..n * kv_heads.len() * dim];
            let values = &mut buffers.values[..n * kv_heads.len() * dim];
            let mut normed = Input::new(normed, buffers.integers.as_mut());
            let rows = |heads: &Range<usize>| heads.start * dim..heads.end * dim;
            let [q, k, v] = [role::ATTN_Q, role::ATTN_K, role::ATTN_V];
            product(block.get(q)?, layers, rows(&heads), &mut normed, queries, scratch)?;
            product(block.get(k)?, layers, rows(&kv_heads), &mut normed, keys, scratch)?;
            product(block.get(v)?, layers, rows(&kv_heads), &mut normed, values, scratch)?;
            let [q, k, v] = [role::ATTN_Q_BIAS, role::ATTN_K_BIAS, role::ATTN_V_BIAS];
            add_bias(block.find(q), layers, rows(&heads), queries, scratch)?;
            add_bias(block.find(k), layers, rows(&kv_heads), keys, scratch)?;
            add_bias(block.find(v), layers, rows(&kv_heads), values, scratch)?;

            let attended = all_heads.own(attended);
            let (query_len, key_len) = (heads.len() * dim, kv_heads.len() * dim);
            let rows =
                queries.chunks_exact_mut(query_len).zip(attended.chunks_exact_mut(query_len));
            let new = keys.chunks_exact_mut(key_len).zip(values.chunks_exact(key_len));
            for (row, ((queries, attended), (keys, values))) in rows.zip(new).enumerate() {
                self.rope.rotate(row, queries, dim);
                self.rope.rotate(row, keys, dim);
                cache.put(shape, self.position + row, keys, values);
                cache.attend(shape, self.position + row, queries, buffers.scores, attended);
            }
        }

        let attended = all_heads.gather_rows(attended, buffers.queries)?;
        let mut attended = Input::new(attended, buffers.integers.as_mut());
        let output = block.get(role::ATTN_OUTPUT)?;
        self.add_product(output, layers, &mut attended, buffers.residual, hidden, scratch)
    }

    fn feed_forward(
        &self,
        block: &Block,
        layers: &Layers,
        buffers: &mut Buffers,
    ) -> Result<(), Status> {
        let (shape, n) = (self.shape, self.n);
        let (own, all) = (shape.share.own(shape.ffn), shape.share.rows(shape.ffn, n));
        let hidden = &mut buffers.hidden[..n * shape.dim];
        let normed = &mut buffers.normed[..n * shape.dim];
        let gate = &mut buffers.gate[..n * shape.ffn];
        let scratch = &mut *buffers.scratch;

        let norm = block.get(role::FFN_NORM)?;
        norm_rows(norm, layers, hidden, normed, &mut scratch[..shape.dim], shape.rms_epsilon)?;
        let mut normed = Input::new(normed, buffers.integers.as_mut());
        let own_gate = all.own(gate);
        let up = &mut buffers.up[..own_gate.len()];
        let [weights, other] = [role::FFN_GATE, role::FFN_UP];
        product(block.get(weights)?, layers, own.clone(), &mut normed, own_gate, scratch)?;
        product(block.get(other)?, layers, own, &mut normed, up, scratch)?;
        math::swiglu(own_gate, up);
        let gate = all.gather_rows(gate, buffers.up)?;
        let mut gate = Input::new(gate, buffers.integers.as_mut());
        let down = block.get(role::FFN_DOWN)?;
        self.add_product(down, layers, &mut gate, buffers.residual, hidden, scratch)
    }

    /// Adds the product of a matrix to the hidden state.
    fn add_product(
        &self,
        stored: &Stored,
        layers: &Layers,
        x: &mut Input<'_>,
        residual: &mut [f32],
        hidden: &mut [f32],
        scratch: &mut [f32],
    ) -> Result<(), Status> {
        let (share, dim) = (self.shape.share, self.shape.dim);
        let (own, all) = (share.own(dim), share.rows(dim, self.n));
        let residual = &mut residual[..hidden.len()];
        product(stored, layers, own, x, all.own(residual), scratch)?;
        all.gather(residual)?;
        all.for_each(|from, to| math::add(&mut hidden[to], &residual[from]));
        Ok(())
    }
}

/// The product of some rows of a matrix with as many columns as `y` has room for.
fn product(
    stored: &Stored,
    layers: &Layers,
    rows: Range<usize>,
    x: &mut Input<'_>,
    y: &mut [f32],
    scratch: &mut [f32],
) -> Result<(), Status> {
    if !rows.is_empty() {
        let columns = y.len() / rows.len();
        stored.each_part(layers, rows, |part, first| {
            x.multiply(part, Output::from_row(y, columns, first), scratch);
        })?;
    }
    Ok(())
}

/// Adds some elements of a bias, if there is one, to as many columns as `y` has.
fn add_bias(
    bias: Option<&Stored>,
    layers: &Layers,
    rows: Range<usize>,
    y: &mut [f32],
    scratch: &mut [f32],
) -> Result<(), Status> {
    let Some(stored) = bias else { return Ok(()) };
    let bias = &mut scratch[..stored.cols];
    stored.expand(layers, 0, bias)?;
    let bias = &bias[rows];
    y.chunks_exact_mut(bias.len()).for_each(|column| math::add(column, bias));
    Ok(())
}

/// Normalizes rows; the stored weights are first copied to `weight`, as their address need
/// not be aligned.
fn norm_rows(
    stored: &Stored,
    layers: &Layers,
    rows: &[f32],
    out: &mut [f32],
    weight: &mut [f32],
    epsilon: f32,
) -> Result<(), Status> {
    stored.expand(layers, 0, weight)?;
    let dim = weight.len();
    for (row, out) in rows.chunks_exact(dim).zip(out.chunks_exact_mut(dim)) {
        math::rms_norm(row, weight, epsilon, out);
    }
    Ok(())
}

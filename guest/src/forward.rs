//! The stages of a network: embedding, blocks, and output head.

use core::ops::Range;

use polychord_abi::transformer::{CacheRows, MOST_ROPES, MixedRows, feature, role, status};

use crate::buffers::Buffers;
use crate::caches::Caches;
use crate::dense::Dense;
use crate::experts::Routed;
use crate::host::Layers;
use crate::kept::Memory;
use crate::kernels::Input;
#[cfg(feature = "multi32")]
use crate::memories;
use crate::model::{Block, Description, Globals, Shape, Stored};
use crate::products::{add_bias, norm_rows, norm_with_bias, product};
use crate::rope::Rope;
use crate::stage::Stage;
use crate::{Status, alloc, inputs, math};

/// A network, or the part of one that this instance holds, ready to run.
pub(crate) struct Network {
    pub(crate) shape: Shape,
    pub(crate) globals: Globals,
    pub(crate) blocks: &'static mut [Block],
    caches: Caches,
    pub(crate) ropes: &'static mut [Rope],
    pub(crate) buffers: Buffers,
    pub(crate) dense: Dense,
    /// The block whose experts are computed some at a time.
    pub(crate) routed: Option<Routed>,
}

impl Network {
    /// Allocates all that a checked description needs.
    pub(crate) fn new(description: Description) -> Result<Self, Status> {
        #[cfg(feature = "multi32")]
        memories::prepare(description.longest_row())?;
        let Description { shape, ropes, globals, blocks, cache } = description;
        let (mut next, mut refused) = (ropes.iter(), status::OUT_OF_MEMORY);
        let ropes = alloc::filled(ropes.len(), || {
            Rope::new(next.next()?, &shape).map_err(|status| refused = status).ok()
        });
        Ok(Self {
            caches: Caches::new(&shape, blocks, cache)?,
            ropes: ropes.ok_or(refused)?,
            buffers: Buffers::new(&shape)?,
            dense: Dense::new(&globals)?,
            routed: None,
            shape,
            globals,
            blocks,
        })
    }

    /// Begins anew after a call that was stopped: the cache has `position` positions.
    pub(crate) fn restart(&mut self, position: i32) -> Result<(), Status> {
        let position = usize::try_from(position).map_err(|_| status::CONTEXT_FULL)?;
        self.caches.truncate(position);
        self.ropes.iter_mut().for_each(Rope::undo);
        self.routed = None;
        Ok(())
    }

    /// Where one of the parts is of what blocks keep, by its number among all.
    pub(crate) fn cache_rows(&self, index: i32) -> Result<CacheRows, Status> {
        let mut index = usize::try_from(index).map_err(|_| status::BAD_BLOCK)?;
        for (number, block) in self.blocks.iter().enumerate() {
            let parts = block.shape.parts();
            match parts.get(index) {
                Some(part) => return self.caches.rows(&self.shape, self.blocks, number, *part),
                None => index -= parts.len(),
            }
        }
        Err(status::BAD_BLOCK)
    }

    /// Goes on after `position` positions, whose keys and values the host has put into the caches.
    pub(crate) fn resume(&mut self, position: i32) -> Result<(), Status> {
        match usize::try_from(position) {
            Ok(position) if position <= self.shape.context => {
                self.caches.resume(position);
                Ok(())
            }
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

    /// What blocks get beside the hidden state.
    pub(crate) fn carried(&self) -> *const f32 {
        self.buffers.carried.as_ptr()
    }

    /// The result of [`head`](Self::head).
    pub(crate) fn logits(&self) -> *const f32 {
        self.buffers.logits.as_ptr()
    }

    /// Hidden state of the first `n` tokens.
    pub(crate) fn embed(&mut self, n: i32) -> Result<(), Status> {
        let n = self.rows(n)?;
        self.routed = None;
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
        let buffers = &mut self.buffers;
        let rows = &mut buffers.hidden[..n * self.shape.dim];
        math::scale(rows, self.shape.embedding_scale);
        if let Some(types) = self.globals.find(role::TOKEN_TYPES) {
            add_bias(types, &layers, 0, 0..types.cols, rows, buffers.scratch)?;
        }
        if let Some(positions) = self.globals.find(role::POSITIONS) {
            for (position, row) in rows.chunks_exact_mut(self.shape.dim).enumerate() {
                add_bias(positions, &layers, position, 0..positions.cols, row, buffers.scratch)?;
            }
        }
        if let Some(norm) = self.globals.find(role::EMBEDDING_NORM) {
            let both = (norm, self.globals.get(role::EMBEDDING_NORM_BIAS)?);
            norm_with_bias(both, &layers, rows, buffers.scratch, self.shape.epsilon)?;
        }
        match self.shape.features & feature::LAYER_INPUTS {
            0 => Ok(()),
            _ => inputs::prepare(&self.shape, &self.globals, n, &mut self.buffers),
        }
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
        self.run_part(first, count, position, n, |stage, block, memory, buffers| {
            stage.run(block, memory, buffers)
        })
    }

    /// Runs one block's attention alone.
    pub(crate) fn attention(&mut self, block: i32, position: i32, n: i32) -> Result<(), Status> {
        self.run_part(block, 1, position, n, |stage, block, memory, buffers| {
            stage.attention(block, &Layers::new(), memory, buffers)
        })
    }

    /// One block's feed-forward part alone, over `n` rows.
    pub(crate) fn feed_forward(&mut self, block: i32, n: i32) -> Result<(), Status> {
        self.of_rows(block, n, |stage, block, buffers| {
            stage.feed_forward(block, &Layers::new(), buffers)
        })
    }

    /// What a block does before positions meet, over `n` rows of any sequences.
    pub(crate) fn enter_attention(&mut self, block: i32, n: i32) -> Result<(), Status> {
        self.of_rows(block, n, |stage, block, buffers| {
            stage.enter_attention(block, &Layers::new(), buffers)
        })
    }

    /// Where they meet, for one row, which is the first: this instance has the sequence that it is of.
    pub(crate) fn mix(&mut self, block: i32, position: i32) -> Result<(), Status> {
        self.run_part(block, 1, position, 1, |stage, block, memory, buffers| {
            stage.mix(block, &Layers::new(), memory, buffers)
        })
    }

    /// What a block does behind that, but for its feed-forward part.
    pub(crate) fn leave_attention(&mut self, block: i32, n: i32) -> Result<(), Status> {
        self.of_rows(block, n, |stage, block, buffers| {
            stage.leave_attention(block, &Layers::new(), buffers)
        })
    }

    /// Where a row of what `mix` gets or gives is, by its number.
    pub(crate) fn mixed_rows(&self, block: i32, n: i32, index: i32) -> Result<MixedRows, Status> {
        let n = self.rows(n)?;
        let (block, _) = self.range(block, 1)?;
        let block = self.blocks.get(block).ok_or(status::BAD_BLOCK)?;
        let stage = Stage { shape: &self.shape, ropes: self.ropes, position: 0, n };
        let index = usize::try_from(index).map_err(|_| status::BAD_BLOCK)?;
        let rows = stage.mixed_rows(&block.shape, &self.buffers);
        rows.into_iter().flatten().nth(index).ok_or(status::BAD_BLOCK)
    }

    /// Runs a part of one block that needs each of `n` rows alone.
    fn of_rows(
        &mut self,
        block: i32,
        n: i32,
        part: fn(&Stage<'_>, &Block, &mut Buffers) -> Result<(), Status>,
    ) -> Result<(), Status> {
        let n = self.rows(n)?;
        self.routed = None;
        let (block, _) = self.range(block, 1)?;
        let block = self.blocks.get(block).ok_or(status::BAD_BLOCK)?;
        let stage = Stage { shape: &self.shape, ropes: self.ropes, position: 0, n };
        part(&stage, block, &mut self.buffers)
    }

    fn run_part(
        &mut self,
        first: i32,
        count: i32,
        position: i32,
        n: i32,
        part: impl Fn(&Stage<'_>, &Block, Memory<'_>, &mut Buffers) -> Result<(), Status>,
    ) -> Result<(), Status> {
        let n = self.rows(n)?;
        self.routed = None;
        let (first, count) = self.range(first, count)?;
        let position = usize::try_from(position).map_err(|_| status::CONTEXT_FULL)?;
        if n > self.shape.context || position > self.shape.context - n {
            return Err(status::CONTEXT_FULL);
        }
        for block in first..first + count {
            self.caches.progress(block).check(&self.blocks[block].shape, position)?;
        }
        // What comes later would change what was computed.
        if position != 0 && self.shape.features & feature::ENCODER != 0 {
            return Err(status::BAD_ORDER);
        }
        self.prepare_ropes(first..first + count, position, n)?;
        let stage = Stage { shape: &self.shape, ropes: self.ropes, position, n };
        for block in first..first + count {
            let (weights, buffers) = (&self.blocks[block], &mut self.buffers);
            let (its, positions) = (&weights.shape, position..position + n);
            if let Some(source) = its.source {
                let first_seen = its.first_seen(position);
                let source = self.caches.progress(source);
                source.check_source(first_seen, positions.end, its.positions)?;
            }
            let fill = |memory: Memory<'_>| part(&stage, weights, memory, buffers);
            self.caches.extend(block, self.blocks, positions, fill)?;
        }
        Ok(())
    }

    /// Prepares the rotations that blocks need.
    fn prepare_ropes(
        &mut self,
        blocks: Range<usize>,
        position: usize,
        n: usize,
    ) -> Result<(), Status> {
        let mut needed = [false; MOST_ROPES as usize];
        for rope in self.blocks[blocks].iter().filter_map(|block| block.shape.rope) {
            needed[rope] = true;
        }
        for (rope, _) in self.ropes.iter_mut().zip(needed).filter(|(_, is_needed)| *is_needed) {
            // Once is enough; and not earlier, as its layer may not be there at `INIT`.
            if let Some(role) = rope.missing_factors() {
                let factors = &mut self.buffers.scratch[..rope.pairs()];
                self.globals.get(role)?.expand(&Layers::new(), 0, factors)?;
                rope.divide(factors)?;
            }
            rope.prepare(position, n);
        }
        Ok(())
    }

    /// Some of the logits of the first `n` rows: of `count` tokens from number `first` on, as
    /// `[n][count]` where [`head_rows`](Self::head_rows) says.
    pub(crate) fn heads(&mut self, n: i32, first: i32, count: i32) -> Result<(), Status> {
        let n = self.rows(n)?;
        let [first, count] = [first, count].map(|it| usize::try_from(it).unwrap_or(usize::MAX));
        let (dim, vocab) = (self.shape.dim, self.shape.vocab);
        // The result, and what ranks have of it before it is put in order.
        let room = self.shape.batch * dim / (2 * n);
        if first >= vocab || count == 0 || count > room || count > vocab - first {
            return Err(status::BAD_BATCH);
        }
        self.routed = None;
        let layers = Layers::new();
        let (norm, output) = self.shape.output(&self.globals)?;
        let buffers = &mut self.buffers;
        let normed = &mut buffers.normed[..n * dim];
        normed.copy_from_slice(&buffers.hidden[..n * dim]);
        let is_layer_norm = self.shape.features & feature::LAYER_NORM != 0;
        let weight = &mut buffers.scratch[..dim];
        norm_rows(norm, &layers, normed, weight, self.shape.epsilon, is_layer_norm)?;
        let share = self.shape.share;
        let (own, all) = (share.own(count), share.rows(count, n));
        let own = first + own.start..first + own.end;
        let (logits, stacked) = buffers.residual[..2 * n * count].split_at_mut(n * count);
        let mut normed = Input::new(normed, buffers.integers.as_mut());
        product(output, &layers, own, &mut normed, all.own(stacked), buffers.scratch)?;
        all.gather(stacked)?;
        all.for_each(|from, to| logits[to].copy_from_slice(&stacked[from]));
        if let Some(bias) = self.globals.find(role::OUTPUT_BIAS) {
            add_bias(bias, &layers, 0, first..first + count, logits, buffers.scratch)?;
        }
        self.shape.finish_logits(logits);
        Ok(())
    }

    /// The result of [`heads`](Self::heads).
    pub(crate) fn head_rows(&self) -> *const f32 {
        self.buffers.residual.as_ptr()
    }

    /// Logits of one row of hidden state.
    pub(crate) fn head(&mut self, row: i32) -> Result<(), Status> {
        let row = usize::try_from(row).map_err(|_| status::BAD_BATCH)?;
        if row >= self.shape.batch {
            return Err(status::BAD_BATCH);
        }
        self.routed = None;
        let (norm, output) = self.shape.output(&self.globals)?;
        let buffers = &mut self.buffers;
        let dim = self.shape.dim;
        let normed = &mut buffers.normed[..dim];
        normed.copy_from_slice(&buffers.hidden[row * dim..][..dim]);
        // Layers of one stage stay mapped together.
        let layers = Layers::new();
        let weight = &mut buffers.residual[..dim];
        let is_layer_norm = self.shape.features & feature::LAYER_NORM != 0;
        norm_rows(norm, &layers, normed, weight, self.shape.epsilon, is_layer_norm)?;
        let (share, vocab) = (self.shape.share, self.shape.vocab);
        let (own, all) = (share.own(vocab), share.rows(vocab, 1));
        let mut normed = Input::new(normed, buffers.integers.as_mut());
        let logits = &mut *buffers.logits;
        product(output, &layers, own.clone(), &mut normed, all.own(logits), buffers.scratch)?;
        all.gather(logits)?;
        if let Some(bias) = self.globals.find(role::OUTPUT_BIAS) {
            add_bias(bias, &layers, 0, 0..vocab, logits, buffers.scratch)?;
        }
        self.shape.finish_logits(logits);
        Ok(())
    }

    pub(crate) fn rows(&self, n: i32) -> Result<usize, Status> {
        match usize::try_from(n) {
            Ok(n) if n > 0 && n <= self.shape.batch => Ok(n),
            _ => Err(status::BAD_BATCH),
        }
    }

    /// The blocks as indices into this instance's own.
    pub(crate) fn range(&self, first: i32, count: i32) -> Result<(usize, usize), Status> {
        let first = usize::try_from(first).map_err(|_| status::BAD_BLOCK)?;
        let count = usize::try_from(count).map_err(|_| status::BAD_BLOCK)?;
        let first = first.checked_sub(self.shape.first_block).ok_or(status::BAD_BLOCK)?;
        if first > self.shape.blocks || count > self.shape.blocks - first {
            return Err(status::BAD_BLOCK);
        }
        Ok((first, count))
    }
}

impl Shape {
    /// The norm behind the last block, and the matrix that makes logits.
    fn output<'a>(&self, globals: &'a Globals) -> Result<(&'a Stored, &'a Stored), Status> {
        let is_tied = self.features & feature::TIED_OUTPUT != 0;
        let output = if is_tied { role::TOKEN_EMBD } else { role::OUTPUT };
        Ok((globals.get(role::OUTPUT_NORM)?, globals.get(output)?))
    }

    /// What is done to logits behind their product.
    fn finish_logits(&self, logits: &mut [f32]) {
        math::scale(logits, self.logit_scale);
        if self.logit_cap != 0.0 {
            math::cap(logits, self.logit_cap);
        }
        math::canonical_nan(logits);
    }
}

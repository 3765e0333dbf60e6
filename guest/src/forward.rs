//! The stages of a network: embedding, blocks, and output head.

use core::ops::Range;

use polychord_abi::transformer::{CacheRows, MOST_ROPES, feature, role, status};

use crate::buffers::Buffers;
use crate::caches::Caches;
use crate::dense::Dense;
use crate::experts::Routed;
use crate::host::Layers;
use crate::kept::Memory;
use crate::kernels::Input;
#[cfg(feature = "multi32")]
use crate::memories;
use crate::model::{Block, Description, Globals, Shape};
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
        self.ropes.iter_mut().for_each(Rope::undo_divide);
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
        let n = self.rows(n)?;
        self.routed = None;
        let (block, _) = self.range(block, 1)?;
        let stage = Stage { shape: &self.shape, ropes: self.ropes, position: 0, n };
        stage.feed_forward(&self.blocks[block], &Layers::new(), &mut self.buffers)
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

    /// Logits of one row of hidden state.
    pub(crate) fn head(&mut self, row: i32) -> Result<(), Status> {
        let row = usize::try_from(row).map_err(|_| status::BAD_BATCH)?;
        if row >= self.shape.batch {
            return Err(status::BAD_BATCH);
        }
        self.routed = None;
        let norm = self.globals.get(role::OUTPUT_NORM)?;
        let is_tied = self.shape.features & feature::TIED_OUTPUT != 0;
        let output = if is_tied { role::TOKEN_EMBD } else { role::OUTPUT };
        let output = self.globals.get(output)?;
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
        math::scale(logits, self.shape.logit_scale);
        if self.shape.logit_cap != 0.0 {
            math::cap(logits, self.shape.logit_cap);
        }
        math::canonical_nan(logits);
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

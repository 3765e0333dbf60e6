//! One guest with the layers that it holds, and the stages that it computes.

mod step;

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::sync::Arc;
use std::time::{Duration, Instant};

use polychord_abi::transformer::{self, MixedRows, Tensor, export, role};
use polychord_model::descriptor;
use polychord_model::layout::{Layout, Part};
use polychord_receipts::snapshot::RowHeader;
use polychord_runtime_api::{
    Image, LayerSpec, LoadMethod, MemoryKind, MemorySpec, MemoryStats, PlannedLayer, PlannedMemory,
    Rank, RegionSpec, Runtime, Source, Value,
};

use crate::caches::{Caches, Given, ImageRows};
use crate::calls::{address, call_status, first_number, int, outside, pointer};
use crate::error::{Error, Result};
use crate::paged::Paged;
use crate::setup::{Held, Setup};
use crate::stats::expert_stats::ExpertStats;
use crate::stats::load_report::LoadReport;
use crate::stats::session_stats::SessionStats;

/// One guest of a plan, with its memories.
pub(crate) struct Shard {
    runtime: Box<dyn Runtime>,
    /// The blocks that it holds.
    blocks: Range<u32>,
    /// The layers of each part, and the pager that brings them in, if they are not always there.
    paged: Option<Paged>,
    parts: Option<Parts>,
    caches: Caches,
    tokens: usize,
    hidden: usize,
    /// What goes with the hidden state, if anything does.
    carried: usize,
    logits: Range<u64>,
    /// The logits, where no slice of the guest's memory has them: on both sides of the edge of two segments
    /// of a memory that was lowered.
    own_logits: Option<Vec<u8>>,
    row_bytes: usize,
    carried_bytes: usize,
    /// How many numbers the matrices behind the network make of a row, if there are any.
    dense: Option<usize>,
    /// Most rows of a call.
    rows: usize,
    /// By block and number of rows, as far as it was asked for.
    mixed: BTreeMap<(u32, usize), Arc<[MixedRows]>>,
}

/// Time for the parts of blocks, where they are called one by one.
#[derive(Clone, Copy, Default)]
pub(crate) struct Parts {
    pub(crate) attention: Duration,
    pub(crate) feed_forward: Duration,
}

/// Tokens that are computed at once, between blocks.
pub(crate) struct Batch {
    /// Position of the first one.
    pub(crate) position: u32,
    pub(crate) rows: usize,
    /// Their hidden state, as bytes.
    pub(crate) hidden: Vec<u8>,
    /// What goes with it, likewise.
    pub(crate) carried: Vec<u8>,
}

impl Shard {
    /// Starts a guest, makes its memories, and loads their layers, unless they are paged.
    pub(crate) fn start(
        setup: &Setup<'_>,
        guest: u32,
        report: &mut LoadReport,
        progress: &mut dyn FnMut(u64),
    ) -> Result<Self> {
        let Setup { module, model, source, layout, placed, guests, limits, rank, .. } = *setup;
        let no_guest = || Error::Plan { reason: format!("it has no guest {guest}") };
        let mut runtime = module.instantiate(limits.get(guest as usize).ok_or_else(no_guest)?)?;
        if let Some(rank) = rank {
            runtime.join(rank.clone())?;
        }
        check_version(&mut *runtime)?;
        let memories = guests.get(guest as usize).map_or(&[][..], |memories| memories);
        let layers: Vec<_> = memories.iter().flat_map(|it| it.layers.iter().copied()).collect();
        let blocks = blocks(layout, &layers, guest)?;
        let ids: BTreeSet<_> = layers.iter().map(|it| it.source.id.0).collect();
        let held = |tensor: &&Tensor| ids.contains(&tensor.layer);
        let tensors: Vec<_> = layout.tensors.iter().filter(held).copied().collect();
        let init = |runtime: &mut dyn Runtime, cache| {
            let (config, settings) = (model.config(), setup.settings());
            let bytes = descriptor::bytes(config, &settings, blocks.clone(), cache, &tensors);
            initialize(runtime, &bytes)
        };
        let is_cache = |held: &&Held<'_>| held.memory.region == PlannedMemory::KV;
        let (mut paged, mut cache) = (None, 0);
        if placed.is_flat() {
            // What is written comes before weights: accesses to it cost least where it is in the
            // first segment of a lowered memory.
            for Held { memory, .. } in memories.iter().filter(is_cache) {
                cache = create(&mut *runtime, memory)?;
            }
            init(&mut *runtime, cache)?;
            leave_free(&mut *runtime, placed.weights_from)?;
        }
        for held in memories {
            let Held { memory, layers } = held;
            if is_cache(&held) {
                if !placed.is_flat() {
                    cache = create(&mut *runtime, memory)?;
                }
            } else if memory.paged {
                let held = (*memory, &layers[..]);
                let blocks = blocks.clone();
                let policy = placed.policy;
                let weights = (model, source);
                paged = Some(Paged::new(&mut *runtime, weights, layout, held, policy, blocks)?);
            } else {
                load(&mut *runtime, source, memory, layers, report, progress)?;
            }
        }
        if !placed.is_flat() {
            init(&mut *runtime, cache)?;
        }
        let (dim, vocab) = (model.config().dim as usize, model.config().vocab as usize);
        let rows = setup.batch as usize;
        let dense = [role::DENSE_3, role::DENSE_2]
            .into_iter()
            .find_map(|role| layout.tensors.iter().find(|tensor| tensor.role == role));
        let carried_bytes = model.config().carried() as usize * 4;
        let carried = match carried_bytes {
            0 => 0,
            bytes => pointer(&mut *runtime, export::CARRIED, &[], rows * bytes)?,
        };
        let logits = pointer(&mut *runtime, export::LOGITS, &[], vocab * 4)? as u64;
        let logits = logits..logits + vocab as u64 * 4;
        Ok(Self {
            tokens: pointer(&mut *runtime, export::TOKENS, &[], rows * 4)?,
            hidden: pointer(&mut *runtime, export::HIDDEN, &[], rows * dim * 4)?,
            own_logits: runtime
                .memory_slice(0, logits.clone())
                .is_none()
                .then(|| vec![0; vocab * 4]),
            logits,
            carried,
            row_bytes: dim * 4,
            carried_bytes,
            dense: dense.map(|dense| dense.rows as usize),
            rows,
            mixed: BTreeMap::new(),
            caches: Caches::of(&mut *runtime, blocks.len())?,
            runtime,
            blocks,
            paged,
            parts: setup.profile.then(Parts::default),
        })
    }

    /// The blocks that this guest computes.
    pub(crate) const fn blocks(&self) -> &Range<u32> {
        &self.blocks
    }

    /// Makes the guest usable after a call that was stopped; its cache keeps `position` positions.
    pub(crate) fn restart(&mut self, position: u32) -> Result<()> {
        self.stage(export::RESTART, &[Value::I32(position.cast_signed())])
    }

    /// Lets the guest touch weights ahead, `bytes` at a time; 0 for none.
    pub(crate) fn touch_ahead(&mut self, bytes: u32) -> Result<()> {
        self.stage(export::TOUCH_AHEAD, &[Value::I32(bytes.cast_signed())])
    }

    /// Takes over the first `positions` positions of another guest's sequence, and its logits. It holds
    /// the same blocks for the same rank. Tells what was copied and what is shared: `shared` is an image
    /// of the rows of the first positions.
    pub(crate) fn continue_from(
        &mut self,
        other: &Self,
        positions: u32,
        shared: Option<(&Image, &ImageRows, u32)>,
    ) -> Result<Given> {
        let from = (&other.caches, &*other.runtime);
        let given = self.caches.copy(&mut *self.runtime, from.0, from.1, positions, shared)?;
        self.resume(positions)?;
        self.write_logits(other.logits())?;
        Ok(given)
    }

    /// Lets the guest have that many positions, whose rows were written.
    pub(crate) fn resume(&mut self, positions: u32) -> Result<()> {
        self.stage(export::RESUME, &[Value::I32(positions.cast_signed())])
    }

    /// The heads whose keys and values it has.
    pub(crate) fn heads(&self) -> impl Iterator<Item = RowHeader> {
        self.caches.heads()
    }

    /// The caches of its blocks, and the guest that has them.
    pub(crate) fn caches(&self) -> (&Caches, &dyn Runtime) {
        (&self.caches, &*self.runtime)
    }

    /// The caches of its blocks, to be written.
    pub(crate) fn caches_mut(&mut self) -> (&Caches, &mut dyn Runtime) {
        (&self.caches, &mut *self.runtime)
    }

    /// Sets the logits.
    pub(crate) fn write_logits(&mut self, logits: &[u8]) -> Result<()> {
        if logits.len() as u64 != self.logits.end - self.logits.start {
            return Err(outside(export::LOGITS));
        }
        let written = self.runtime.write_memory(0, self.logits.start, logits);
        written.map_err(|_| outside(export::LOGITS))?;
        self.keep_logits()
    }

    /// Hidden state of tokens, as many as the batch allows.
    pub(crate) fn embed(&mut self, tokens: &[u32]) -> Result<()> {
        for (at, token) in (self.tokens as u64..).step_by(4).zip(tokens) {
            let written = self.runtime.write_memory(0, at, &token.to_le_bytes());
            written.map_err(|_| outside(export::TOKENS))?;
        }
        if let Some(paged) = &mut self.paged {
            paged.require_embedding(&mut *self.runtime)?;
        }
        self.stage(export::EMBED, &[Value::I32(int(tokens.len())?)])
    }

    /// Runs all blocks of this guest over the first rows of the hidden state.
    pub(crate) fn run(&mut self, position: u32, rows: usize) -> Result<()> {
        let rows = int(rows)?;
        if !self.is_paged() {
            return self.run_blocks(self.blocks.clone(), position, rows);
        }
        for block in self.blocks.clone() {
            self.require(block)?;
            self.run_paged(block, position, rows)?;
        }
        Ok(())
    }

    /// Runs each block of this guest over all batches before the next. The hidden state of the
    /// last batch stays in the guest.
    pub(crate) fn run_batches(&mut self, batches: &mut [Batch]) -> Result<()> {
        for block in self.blocks.clone() {
            self.require(block)?;
            for batch in &mut *batches {
                self.write_rows(&batch.hidden, &batch.carried)?;
                self.run_paged(block, batch.position, int(batch.rows)?)?;
                self.read_hidden(&mut batch.hidden)?;
            }
        }
        Ok(())
    }

    /// Bytes of the hidden state of one token, and of what goes with it.
    pub(crate) const fn row_bytes(&self) -> usize {
        self.row_bytes + self.carried_bytes
    }

    /// Bytes of the hidden state of one token.
    pub(crate) const fn hidden_bytes(&self) -> usize {
        self.row_bytes
    }

    /// Whether layers of this guest are paged.
    pub(crate) const fn is_paged(&self) -> bool {
        self.paged.is_some()
    }

    /// Brings in a block, and has the one after it read ahead, if they are paged.
    fn require(&mut self, block: u32) -> Result<()> {
        let Some(paged) = &mut self.paged else { return Ok(()) };
        let index = (block - self.blocks.start) as usize;
        paged.require_block(&mut *self.runtime, index)
    }

    /// Runs a block that is there but for its experts, if they are apart.
    fn run_paged(&mut self, block: u32, position: u32, rows: i32) -> Result<()> {
        let index = (block - self.blocks.start) as usize;
        let Some(used) = self.paged.as_ref().and_then(|paged| paged.experts_used(index)) else {
            return self.run_blocks(block..block + 1, position, rows);
        };
        let number = block.cast_signed();
        let attention = self.timed_stage(export::ATTENTION, [number, position.cast_signed(), rows]);
        let attention = attention?;
        let (start, exchanged, paging) = (Instant::now(), self.exchange_time(), self.paging_time());
        self.run_experts(index, number, rows, used)?;
        if let Some(parts) = &mut self.parts {
            parts.attention += attention;
        }
        let beside = self.exchange_time() - exchanged + (self.paging_time() - paging);
        if let Some(parts) = &mut self.parts {
            parts.feed_forward += start.elapsed().saturating_sub(beside);
        }
        Ok(())
    }

    /// Runs a feed-forward part with experts, which are brought in once they are chosen.
    fn run_experts(&mut self, index: usize, block: i32, rows: i32, used: usize) -> Result<()> {
        self.stage(export::ROUTE, &[Value::I32(block), Value::I32(rows)])?;
        let len = rows.unsigned_abs() as usize * used * 4;
        let start = pointer(&mut *self.runtime, export::CHOICES, &[], len)?;
        let mut bytes = vec![0; len];
        let read = self.runtime.read_memory(0, start as u64, &mut bytes);
        read.map_err(|_| outside(export::CHOICES))?;
        let (numbers, _) = bytes.as_chunks::<4>();
        let chosen: Vec<_> = numbers.iter().map(|bytes| u32::from_le_bytes(*bytes)).collect();
        let groups = self.paged.as_mut().map(|paged| paged.divide(index, &chosen));
        for group in groups.unwrap_or_default() {
            if let Some(paged) = &mut self.paged {
                paged.require_experts(&mut *self.runtime, index, &group)?;
            }
            let end = group.last().map_or(0, |last| last + 1);
            self.stage(export::EXPERTS, &[Value::I32(block), Value::I32(end.cast_signed())])?;
        }
        self.stage(export::COMBINE, &[Value::I32(block)])
    }

    /// Normalizes the first rows of the hidden state behind the last block.
    pub(crate) fn finish(&mut self, rows: usize) -> Result<()> {
        if let Some(paged) = &mut self.paged {
            paged.require_output(&mut *self.runtime)?;
        }
        self.stage(export::FINISH, &[Value::I32(int(rows)?)])
    }

    /// What matrices behind the network make of a vector; the vector itself, without any.
    pub(crate) fn dense(&mut self, vector: Vec<f32>) -> Result<Vec<f32>> {
        let Some(len) = self.dense else { return Ok(vector) };
        let bytes: Vec<_> = vector.iter().flat_map(|number| number.to_le_bytes()).collect();
        let written = self.runtime.write_memory(0, self.hidden as u64, &bytes);
        written.map_err(|_| outside(export::HIDDEN))?;
        if let Some(paged) = &mut self.paged {
            paged.require_output(&mut *self.runtime)?;
        }
        self.stage(export::DENSE, &[])?;
        self.keep_logits()?;
        let (numbers, _) = self.logits().as_chunks::<4>();
        Ok(numbers.iter().take(len).map(|bytes| f32::from_le_bytes(*bytes)).collect())
    }

    /// Computes the logits of one row.
    pub(crate) fn head(&mut self, row: usize) -> Result<()> {
        if let Some(paged) = &mut self.paged {
            paged.require_head(&mut *self.runtime)?;
        }
        self.stage(export::HEAD, &[Value::I32(int(row)?)])?;
        self.keep_logits()
    }

    /// The first rows of the hidden state, as bytes: as many as `out` has room for.
    pub(crate) fn read_hidden(&self, out: &mut [u8]) -> Result<()> {
        let read = self.runtime.read_memory(0, self.hidden as u64, out);
        read.map_err(|_| outside(export::HIDDEN))
    }

    /// The first rows of the hidden state, and what goes with them, which is nothing in most networks.
    pub(crate) fn rows(&self, count: usize) -> Result<(Vec<u8>, Vec<u8>)> {
        let mut hidden = vec![0; count * self.row_bytes];
        let mut carried = vec![0; count * self.carried_bytes];
        self.read_rows(&mut hidden, &mut carried)?;
        Ok((hidden, carried))
    }

    /// Copies the first rows of the hidden state, and what goes with them: as many as there is room for.
    pub(crate) fn read_rows(&self, hidden: &mut [u8], carried: &mut [u8]) -> Result<()> {
        self.read_hidden(hidden)?;
        let read = self.runtime.read_memory(0, self.carried as u64, carried);
        read.map_err(|_| outside(export::CARRIED))
    }

    /// Sets the first rows of the hidden state, and what goes with them.
    pub(crate) fn write_rows(&mut self, hidden: &[u8], carried: &[u8]) -> Result<()> {
        let written = self.runtime.write_memory(0, self.hidden as u64, hidden);
        written.map_err(|_| outside(export::HIDDEN))?;
        let written = self.runtime.write_memory(0, self.carried as u64, carried);
        written.map_err(|_| outside(export::CARRIED))
    }

    /// Takes over the first rows of the hidden state of another guest, and what goes with them.
    pub(crate) fn take_rows(&mut self, from: &Self, count: usize) -> Result<()> {
        let slice = |start: usize, len: usize| {
            let start = start as u64;
            from.runtime.memory_slice(0, start..start.checked_add(len as u64)?)
        };
        let hidden = slice(from.hidden, count * from.row_bytes);
        let carried = slice(from.carried, count * from.carried_bytes);
        if let (Some(hidden), Some(carried)) = (hidden, carried) {
            return self.write_rows(hidden, carried);
        }
        let (hidden, carried) = from.rows(count)?;
        self.write_rows(&hidden, &carried)
    }

    /// The logits that were computed last, as bytes.
    pub(crate) fn logits(&self) -> &[u8] {
        match &self.own_logits {
            Some(logits) => logits,
            None => self.runtime.memory_slice(0, self.logits.clone()).unwrap_or_default(),
        }
    }

    /// Copies the logits where no slice of the guest's memory has them.
    fn keep_logits(&mut self) -> Result<()> {
        let Some(logits) = &mut self.own_logits else { return Ok(()) };
        let read = self.runtime.read_memory(0, self.logits.start, logits);
        read.map_err(|_| outside(export::LOGITS))
    }

    /// Copies the logits that were computed last.
    pub(crate) fn read_logits(&self, out: &mut [u8]) -> Result<()> {
        let read = self.runtime.read_memory(0, self.logits.start, out);
        read.map_err(|_| outside(export::LOGITS))
    }

    /// Adds the statistics of this guest.
    pub(crate) fn report(&self, into: &mut SessionStats) {
        into.totals = [into.totals, self.runtime.stats()].into_iter().sum();
        into.cache_bytes = into.cache_bytes.saturating_add(self.caches.bytes());
        if let Some(paged) = &self.paged {
            let stats = paged.stats();
            into.paging = Some(into.paging.map_or(stats, |sum| sum + stats));
        }
    }

    /// Statistics of the experts that tokens chose, if they are paged.
    pub(crate) fn expert_stats(&self) -> impl Iterator<Item = ExpertStats> {
        self.paged.iter().flat_map(Paged::expert_stats)
    }

    /// Statistics of each of the guest's memories.
    pub(crate) fn memory_stats(&self) -> Vec<MemoryStats> {
        self.runtime.memory_stats()
    }

    /// Time so far for bringing in layers that are paged.
    pub(crate) fn paging_time(&self) -> Duration {
        self.paged.as_ref().map_or(Duration::ZERO, |paged| paged.time)
    }

    /// Time that was spent on exchanging results with other ranks.
    pub(crate) fn exchange_time(&self) -> Duration {
        self.runtime.host().rank().map_or(Duration::ZERO, Rank::exchange_time)
    }

    /// Time for the parts of blocks so far, zero if they are not timed.
    pub(crate) fn parts(&self) -> Parts {
        self.parts.unwrap_or_default()
    }

    fn run_blocks(&mut self, blocks: Range<u32>, position: u32, rows: i32) -> Result<()> {
        if let Some(mut parts) = self.parts {
            for block in blocks {
                let numbers = [block.cast_signed(), position.cast_signed(), rows];
                parts.attention += self.timed_stage(export::ATTENTION, numbers)?;
                parts.feed_forward +=
                    self.timed_stage(export::FEED_FORWARD, [block.cast_signed(), rows])?;
            }
            self.parts = Some(parts);
            return Ok(());
        }
        let count = blocks.end - blocks.start;
        let [first, count, position] = [blocks.start, count, position].map(u32::cast_signed);
        self.stage(export::BLOCKS, &[first, count, position, rows].map(Value::I32))
    }

    /// Runs a stage, and tells how long it has computed.
    fn timed_stage<const N: usize>(
        &mut self,
        operation: &'static str,
        numbers: [i32; N],
    ) -> Result<Duration> {
        let (start, exchanged) = (Instant::now(), self.exchange_time());
        self.stage(operation, &numbers.map(Value::I32))?;
        Ok(start.elapsed().saturating_sub(self.exchange_time() - exchanged))
    }

    fn stage(&mut self, operation: &'static str, args: &[Value]) -> Result<()> {
        call_status(&mut *self.runtime, operation, args)
    }
}

/// The blocks of a guest of a plan.
pub(crate) fn blocks_of(setup: &Setup<'_>, guest: u32) -> Result<Range<u32>> {
    let memories = setup.guests.get(guest as usize).map_or(&[][..], |memories| memories);
    let layers: Vec<_> = memories.iter().flat_map(|it| it.layers.iter().copied()).collect();
    blocks(setup.layout, &layers, guest)
}

/// The blocks of layers of a guest, which must follow each other.
fn blocks(layout: &Layout, layers: &[&PlannedLayer], guest: u32) -> Result<Range<u32>> {
    let number = |layer: &&PlannedLayer| match layout.part(layer.source.id) {
        Some(Part::Block(block)) => Some(block),
        _ => None,
    };
    let mut blocks: Vec<_> = layers.iter().filter_map(number).collect();
    blocks.sort_unstable();
    blocks.dedup();
    let (Some(first), Some(last)) = (blocks.first(), blocks.last()) else { return Ok(0..0) };
    if (last - first) as usize + 1 == blocks.len() {
        return Ok(*first..last + 1);
    }
    Err(Error::Plan { reason: format!("the blocks of guest {guest} do not follow each other") })
}

/// Takes addresses up to this one, which are never used and so take no memory.
fn leave_free(runtime: &mut dyn Runtime, end: u64) -> Result<()> {
    let free = end.saturating_sub(runtime.memory_bytes(0));
    if free > 0 {
        runtime.create_memory64(&MemorySpec::guest(free))?;
    }
    Ok(())
}

/// Makes a memory for keys and values; its address.
fn create(runtime: &mut dyn Runtime, planned: &PlannedMemory) -> Result<u64> {
    let id = runtime.create_memory64(&spec(planned))?;
    Ok(runtime.memory_address(id)?.unwrap_or(0))
}

/// Makes a memory, registers its layers, and loads them all.
fn load(
    runtime: &mut dyn Runtime,
    source: &Source,
    planned: &PlannedMemory,
    layers: &[&PlannedLayer],
    report: &mut LoadReport,
    progress: &mut dyn FnMut(u64),
) -> Result<()> {
    let memory = runtime.create_memory64(&spec(planned))?;
    for layer in layers {
        let PlannedLayer { source: range, offset, .. } = layer;
        runtime.register_layer(LayerSpec::of(range, source, memory, *offset))?;
        let loaded = runtime.load_layer(layer.source.id)?;
        match loaded.method {
            LoadMethod::Mapped => report.mapped += 1,
            _ => report.copied += 1,
        }
        report.bytes += loaded.bytes;
        report.took += loaded.took;
        progress(report.bytes);
    }
    Ok(())
}

/// A planned memory as one region of its name.
fn spec(planned: &PlannedMemory) -> MemorySpec {
    let region = RegionSpec::fixed(planned.region.clone(), planned.bytes);
    MemorySpec::new(MemoryKind::Guest, [region])
}

fn check_version(runtime: &mut dyn Runtime) -> Result<()> {
    let found = first_number(export::VERSION, &runtime.call(export::VERSION, &[])?)?;
    match i32::try_from(found) {
        Ok(transformer::VERSION) => Ok(()),
        found => Err(Error::GuestVersion {
            found: found.unwrap_or(i32::MAX),
            expected: transformer::VERSION,
        }),
    }
}

/// Hands the descriptor to the guest, which then allocates its caches.
fn initialize(runtime: &mut dyn Runtime, descriptor: &[u8]) -> Result<()> {
    let len = address(runtime, descriptor.len())?;
    let at = pointer(runtime, export::ALLOC, &[len], descriptor.len())?;
    runtime.write_memory(0, at as u64, descriptor)?;
    let at = address(runtime, at)?;
    call_status(runtime, export::INIT, &[at, len])
}

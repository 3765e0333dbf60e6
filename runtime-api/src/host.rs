use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use polychord_abi::PAGE;
use polychord_plan::LayerId;

use crate::capability::Capabilities;
use crate::layers::layer::{CopyReason, Layer, LayerSpec, Layers, LoadMethod, LoadedLayer};
use crate::limits::Limits;
use crate::memory::mapping;
use crate::memory::mapping::Watch;
use crate::memory::place::Place;
use crate::memory::region::Region;
use crate::memory::segment::{Backing, LinearMemories, Segment};
use crate::memory::space::{Memories, MemoryId, MemoryStats, Storage};
use crate::module::ModuleInfo;
use crate::ranks::Rank;
use crate::stats::{Counters, Stats};
use crate::value::AddressType;
use crate::{Error, Result};

/// The host's side of one guest: its memories, layers and counters.
///
/// Shared between the [`Runtime`](crate::Runtime) and the engine's host functions. The
/// guest's linear memories are not part of it: each call passes them, as the engine has them
/// at that moment.
#[derive(Debug)]
pub struct Host {
    capabilities: Arc<Capabilities>,
    module: Arc<ModuleInfo>,
    limits: Limits,
    counters: Counters,
    /// Set if the guest computes together with others.
    rank: OnceLock<Rank>,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    memories: Memories,
    layers: Layers,
    /// The last pages of linear memories that were grown for a memory which could not be made.
    spare: BTreeMap<usize, Range<u64>>,
    last_refusal: Option<Arc<Error>>,
}

impl State {
    /// Whether a layer belongs to a memory in the guest's linear memories.
    fn in_guest(&mut self, id: LayerId) -> Result<bool> {
        let memory = self.layers.get_mut(id)?.spec.memory;
        self.memories.is_in_guest(memory)
    }
}

/// Whether a guest is in the middle of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum CallState {
    /// No: its pages may be exchanged.
    Idle,
    /// Yes: bytes may be written, but pages stay what they are.
    Running,
}

impl Host {
    /// A host for one instance of a module.
    ///
    /// # Errors
    ///
    /// [`Error::TooLarge`] if a memory that the module starts with is beyond the limits.
    pub(crate) fn new(
        capabilities: Arc<Capabilities>,
        module: Arc<ModuleInfo>,
        limits: Limits,
    ) -> Result<Self> {
        let host = Self {
            capabilities,
            module,
            limits,
            counters: Counters::default(),
            rank: OnceLock::new(),
            state: Mutex::default(),
        };
        host.module.shape().check(&host.limits, host.memory_limit(), &host.limited_by())?;
        Ok(host)
    }

    /// What the engine can do.
    #[must_use]
    pub const fn capabilities(&self) -> &Arc<Capabilities> {
        &self.capabilities
    }

    /// What the module imports and exports.
    #[must_use]
    pub const fn module(&self) -> &Arc<ModuleInfo> {
        &self.module
    }

    /// How much the guest may use.
    #[must_use]
    pub const fn limits(&self) -> &Limits {
        &self.limits
    }

    /// Which of several guests that compute together this one is, if it is one.
    #[must_use]
    pub fn rank(&self) -> Option<&Rank> {
        self.rank.get()
    }

    /// Most bytes that each of the guest's linear memories may have, exported or not, by the limits
    /// and by the addresses of the one named `memory`. All together keep the limit of the total.
    #[must_use]
    pub fn memory_limit(&self) -> u64 {
        let by_type = match self.module.address() {
            AddressType::I32 => self.capabilities.memory32_max_bytes,
            AddressType::I64 => u64::MAX,
        };
        self.module.shape().memory_share(&self.limits).min(by_type)
    }

    /// Most elements that each of the guest's tables may have. All together keep the limit.
    #[must_use]
    pub fn table_limit(&self) -> u64 {
        self.module.table_limit(&self.limits)
    }

    /// The counters now.
    pub(crate) fn stats(&self, guest: &(impl LinearMemories + ?Sized)) -> Stats {
        let memories = 0..self.module.memories().len();
        let guest_bytes = memories.map(|index| guest.linear_memory(index).len() as u64).sum();
        Stats { guest_bytes, ..self.counters.snapshot() }
    }

    /// Statistics of each memory that was made.
    pub(crate) fn memory_stats(&self, guest: &(impl LinearMemories + ?Sized)) -> Vec<MemoryStats> {
        let state = self.state();
        let mut stats = state.memories.stats(guest);
        for memory in &mut stats {
            memory.mapped_bytes = state.layers.mapped_bytes(memory.id);
        }
        stats
    }

    /// Why a request was refused last; a guest sees only a number.
    #[must_use]
    pub fn last_refusal(&self) -> Option<Arc<Error>> {
        self.state().last_refusal.clone()
    }

    pub(crate) fn join(&self, rank: Rank) -> Result<()> {
        self.rank.set(rank).map_err(|refused| {
            let rank = self.rank().unwrap_or(&refused);
            Error::HasRank { rank: rank.index(), ranks: rank.count() }
        })
    }

    pub(crate) fn is_enabled(&self) -> bool {
        !self.state().memories.is_empty()
    }

    /// Counts and remembers a refusal.
    pub(crate) fn refuse(&self, error: Error) -> Arc<Error> {
        self.counters.error();
        tracing::debug!(engine = self.capabilities.engine, %error, "refused");
        let error = Arc::new(error);
        self.state().last_refusal = Some(error.clone());
        error
    }

    /// Counts a refusal on its way to the caller.
    pub(crate) fn counted<T>(&self, result: Result<T>) -> Result<T> {
        if let Err(error) = &result {
            self.counters.error();
            tracing::debug!(engine = self.capabilities.engine, %error, "refused");
        }
        result
    }

    /// What sets the limit for a guest's linear memories.
    pub(crate) fn limited_by(&self) -> String {
        format!("{} with these limits", self.capabilities.engine)
    }

    /// Whether a memory has a segment in the linear memory of this index.
    pub(crate) fn has_segment_in(&self, index: usize) -> bool {
        self.state().memories.has_segment_in(index)
    }

    /// How much the linear memory of this index may grow by, in whole pages, in bytes.
    pub(crate) fn room(&self, guest: &(impl LinearMemories + ?Sized), index: usize) -> u64 {
        let own_limit = self.module.memories().get(index).and_then(|memory| memory.max_bytes);
        let limit = self.memory_limit().min(own_limit.unwrap_or(u64::MAX));
        let room = limit.saturating_sub(guest.linear_memory(index).len() as u64);
        room - room % PAGE
    }

    /// What the linear memory of this index ends with that belongs to the host and to no memory;
    /// none any more if the guest has grown it since.
    pub(crate) fn spare(
        &self,
        guest: &(impl LinearMemories + ?Sized),
        index: usize,
    ) -> Option<Range<u64>> {
        let spare = self.state().spare.get(&index).cloned();
        spare.filter(|spare| spare.end == guest.linear_memory(index).len() as u64)
    }

    /// Keeps what linear memories end with for the next memory.
    pub(crate) fn keep_spare(&self, segments: impl IntoIterator<Item = Segment>) {
        let mut state = self.state();
        for Segment { memory, start, bytes } in segments {
            match bytes {
                0 => state.spare.remove(&memory),
                _ => state.spare.insert(memory, start..start + bytes),
            };
        }
    }

    /// Adds a memory of these regions: in these segments of the guest, or in the host.
    pub(crate) fn add_memory(
        &self,
        regions: Vec<Region>,
        segments: Option<Vec<Segment>>,
    ) -> Result<MemoryId> {
        let (backing, storage) = match segments {
            Some(segments) => (Backing::in_guest(self.module.memories()), Storage::Guest(segments)),
            None => {
                let bytes = regions.last().map_or(0, |last| last.offset + last.max_bytes);
                (Backing::Host, Storage::host(self.capabilities.engine, bytes)?)
            }
        };
        let bytes = regions.iter().map(|region| region.bytes).sum();
        let id = self.state().memories.add(regions, backing, storage)?;
        self.counters.memory64(bytes);
        let (engine, reason) = (self.capabilities.engine, backing.reason());
        tracing::debug!(engine, memory = id.0, bytes, ?backing, reason, "memory created");
        Ok(id)
    }

    /// Guest address of the memory's first byte, if it is in the guest.
    pub(crate) fn guest_start(&self, memory: MemoryId) -> Result<Option<u64>> {
        self.state().memories.guest_address(memory, 0)
    }

    /// A region of a memory as it is now.
    pub(crate) fn region(&self, memory: MemoryId, name: &str) -> Result<Region> {
        self.state().memories.region(memory, name).cloned()
    }

    /// Makes a region larger; its size before.
    pub(crate) fn grow_region(&self, memory: MemoryId, name: &str, bytes: u64) -> Result<u64> {
        let mut state = self.state();
        let region = state.memories.region(memory, name)?;
        let before = region.grow(bytes)?;
        self.counters.memory64(region.bytes - before);
        tracing::debug!(memory = memory.0, region = name, bytes = region.bytes, "region grown");
        Ok(before)
    }

    pub(crate) fn register_layer(&self, spec: LayerSpec) -> Result<()> {
        let mut state = self.state();
        let memory_bytes = state.memories.bytes(spec.memory)?;
        let extent = state.memories.extent(spec.memory, spec.offset)?;
        tracing::trace!(
            layer = spec.id.0,
            name = spec.name,
            bytes = spec.bytes,
            "layer registered"
        );
        state.layers.register(spec, memory_bytes, extent)?;
        self.counters.layer();
        Ok(())
    }

    /// Brings a layer into its memory, unless it is there: from its source, or from where its
    /// bytes were read to.
    pub(crate) fn load_layer(
        &self,
        guest: &mut (impl LinearMemories + ?Sized),
        id: LayerId,
        when: CallState,
        read: Option<&[u8]>,
    ) -> Result<LoadedLayer> {
        let start = Instant::now();
        let mut state = self.state();
        let State { memories, layers, .. } = &mut *state;
        let layer = layers.get_mut(id)?;
        let LayerSpec { memory, offset, bytes, .. } = layer.spec;
        let address = memories.guest_address(memory, offset)?;
        let is_lost = layer.watch.as_ref().is_some_and(Watch::is_lost);
        match layer.loaded {
            Some(method) if !is_lost => {
                let (took, reason) = (Duration::ZERO, layer.reason);
                return Ok(LoadedLayer { address, bytes, method, took, reason });
            }
            // What is gone may have been used in this very call.
            Some(_) if when == CallState::Running => {
                return Err(layer.spec.source.truncated(layer.spec.source_offset, bytes));
            }
            _ => {}
        }
        if read.is_none() {
            // Found out before anything is changed.
            layer.spec.source.check_present(layer.spec.source_offset, bytes)?;
        }
        let mut place = memories.place(guest, memory, layer.range())?;
        let watch = match when {
            CallState::Running => Err(CopyReason::GuestRuns),
            CallState::Idle if address.is_none() => Err(CopyReason::HostMemory),
            CallState::Idle if read.is_some() => Err(CopyReason::ReadAhead),
            CallState::Idle => self.map(&mut place, &layer.spec),
        };
        let (mapped, reason) = (watch.is_ok(), watch.as_ref().err().copied());
        if !mapped {
            self.copy(&mut place, layer, read)?;
        }
        layer.watch = watch.ok();
        layer.reason = reason;
        let method = if mapped { LoadMethod::Mapped } else { LoadMethod::Copied };
        layer.loaded = Some(method);
        let took = start.elapsed();
        self.counters.load(bytes, mapped, took);
        memories.count_load(memory, took);
        tracing::debug!(layer = id.0, bytes, ?method, ?took, "layer loaded");
        Ok(LoadedLayer { address, bytes, method, took, reason })
    }

    /// Copies a layer to its place, from its source or from where its bytes were read to. If that
    /// fails, the place is zeros, and the layer not loaded.
    fn copy(&self, place: &mut Place<'_>, layer: &mut Layer, read: Option<&[u8]>) -> Result<()> {
        if let Some(watch) = &layer.watch {
            place.clear(Some(watch)).map_err(|error| self.no_pages(layer, &error))?;
            (layer.watch, layer.loaded) = (None, None);
        } else {
            place.clear_around();
        }
        let to = place.bytes();
        let done = match read {
            Some(read) if read.len() == to.len() => {
                to.copy_from_slice(read);
                Ok(())
            }
            _ => self.read_source(&layer.spec, to),
        };
        if done.is_err() {
            place.clear(None).map_err(|error| self.no_pages(layer, &error))?;
        }
        done
    }

    /// Brings a layer into the guest's linear memories while the guest is running, and returns
    /// its address there. A layer of a memory in the host has none, and is not loaded.
    pub(crate) fn map_layer(
        &self,
        guest: &mut (impl LinearMemories + ?Sized),
        id: LayerId,
    ) -> Result<u64> {
        let refused = Error::NotEnabled {
            operation: polychord_abi::import::MAP_LAYER,
            kind: "in the guest's own linear memory",
        };
        if self.state().in_guest(id)? {
            return self.load_layer(guest, id, CallState::Running, None)?.address.ok_or(refused);
        }
        Err(refused)
    }

    /// Takes a layer out of its memory, which reads as zeros from then on.
    pub(crate) fn release_layer(
        &self,
        guest: &mut (impl LinearMemories + ?Sized),
        id: LayerId,
    ) -> Result<()> {
        let mut state = self.state();
        let State { memories, layers, .. } = &mut *state;
        let layer = layers.get_mut(id)?;
        if layer.loaded.is_none() {
            return Ok(());
        }
        let mut place = memories.place(guest, layer.spec.memory, layer.range())?;
        self.keep(&layer.spec, place.bytes())?;
        place.clear(layer.watch.as_ref()).map_err(|error| self.no_pages(layer, &error))?;
        layer.loaded = None;
        layer.watch = None;
        self.counters.release();
        tracing::debug!(layer = id.0, "layer released");
        Ok(())
    }

    /// Reads a layer to its place, where its bytes then are, if no file has them.
    fn read_source(&self, spec: &LayerSpec, out: &mut [u8]) -> Result<()> {
        let start = Instant::now();
        spec.source.read_at(spec.source_offset, out)?;
        if let Some(anonymous) = spec.source.as_anonymous()
            && anonymous.forget(spec.source_offset, out.len())?
        {
            self.counters.decompression(start.elapsed());
        }
        Ok(())
    }

    /// Keeps the bytes of a layer before it is released, if no file has them.
    fn keep(&self, spec: &LayerSpec, bytes: &[u8]) -> Result<()> {
        let Some(anonymous) = spec.source.as_anonymous() else { return Ok(()) };
        let start = Instant::now();
        let compressed = anonymous.keep(spec.source_offset, bytes)?;
        let took = start.elapsed();
        self.counters.compression(spec.bytes, compressed, took);
        tracing::debug!(layer = spec.id.0, bytes = spec.bytes, compressed, ?took, "compressed");
        Ok(())
    }

    /// Releases a layer and forgets it.
    pub(crate) fn unregister_layer(
        &self,
        guest: &mut (impl LinearMemories + ?Sized),
        id: LayerId,
    ) -> Result<()> {
        self.release_layer(guest, id)?;
        self.state().layers.remove(id);
        self.counters.layer_gone();
        Ok(())
    }

    /// Copies a layer to `to` in the guest's linear memory of index 0: from its memory if it is
    /// loaded, else straight from its source.
    pub(crate) fn copy_layer(
        &self,
        guest: &mut (impl LinearMemories + ?Sized),
        id: LayerId,
        to: Range<usize>,
    ) -> Result<u64> {
        let start = Instant::now();
        let mut state = self.state();
        let State { memories, layers, .. } = &mut *state;
        let layer = layers.get_mut(id)?;
        let bytes = layer.spec.bytes;
        let len = usize::try_from(bytes).ok().filter(|len| *len <= to.len());
        let Some(len) = len.filter(|_| i32::try_from(bytes).is_ok()) else {
            let given = to.len().min(i32::MAX as usize) as u64;
            return Err(Error::BufferTooSmall {
                operation: "memory64_load_layer",
                given,
                needed: bytes,
            });
        };
        let to = to.start..to.start + len;
        if layer.loaded.is_some() {
            let address = memories.address(layer.spec.memory, layer.spec.offset, bytes)?;
            memories.copy_out(guest, address, to)?;
            self.counters.read(bytes);
        } else {
            layer
                .spec
                .source
                .read_at(layer.spec.source_offset, &mut guest.linear_memory_mut(0)[to])?;
            self.counters.load(bytes, false, start.elapsed());
        }
        Ok(bytes)
    }

    /// Makes ready for a use of mapped layers.
    pub(crate) fn before_use(&self) {
        if let Err(error) = mapping::keep_handler() {
            tracing::warn!(%error, "files that shrink while they are mapped will not be noticed");
        }
    }

    /// Checks that nothing which a use of mapped layers could have seen was gone.
    pub(crate) fn after_use(&self) -> Result<()> {
        self.state().layers.check_mapped()
    }

    /// Ends the watch over all mapped layers, as the guest's memories are about to go.
    pub(crate) fn forget_mapped(&self) {
        self.state().layers.forget_mapped();
    }

    /// Checks that a layer exists; hints are about nothing else yet.
    pub(crate) fn hint(&self, id: LayerId) -> Result<()> {
        self.state().layers.get_mut(id).map(|_| ())
    }

    pub(crate) fn read(
        &self,
        guest: &(impl LinearMemories + ?Sized),
        address: u64,
        out: &mut [u8],
    ) -> Result<()> {
        self.state().memories.read(guest, address, out)?;
        self.counters.read(out.len() as u64);
        Ok(())
    }

    pub(crate) fn write(
        &self,
        guest: &mut (impl LinearMemories + ?Sized),
        address: u64,
        data: &[u8],
    ) -> Result<()> {
        self.state().memories.write(guest, address, data)?;
        self.counters.write(data.len() as u64);
        Ok(())
    }

    pub(crate) fn copy_out(
        &self,
        guest: &mut (impl LinearMemories + ?Sized),
        address: u64,
        to: Range<usize>,
    ) -> Result<()> {
        let len = to.len() as u64;
        self.state().memories.copy_out(guest, address, to)?;
        self.counters.read(len);
        Ok(())
    }

    pub(crate) fn copy_in(
        &self,
        guest: &mut (impl LinearMemories + ?Sized),
        from: Range<usize>,
        address: u64,
    ) -> Result<()> {
        let len = from.len() as u64;
        self.state().memories.copy_in(guest, from, address)?;
        self.counters.write(len);
        Ok(())
    }

    /// Address of a byte of a memory in the common space of all memories.
    pub(crate) fn address(&self, memory: MemoryId, offset: u64, len: u64) -> Result<u64> {
        self.state().memories.address(memory, offset, len)
    }

    /// Maps a layer's pages, if the engine, the source and the alignment allow it. The source has
    /// just been found long enough.
    #[allow(unsafe_code, reason = "the contract of the mapping module is met here")]
    fn map(&self, place: &mut Place<'_>, spec: &LayerSpec) -> Result<Watch, CopyReason> {
        let file = spec.source.mapped_file().ok_or(CopyReason::Source)?;
        if !self.capabilities.mapping {
            return Err(CopyReason::Engine);
        }
        // SAFETY: the file has the whole range, and the caller of `Source::open_mapped` promised
        // that it stays so.
        let mapped = unsafe { place.map(file, spec.source_offset) };
        mapped.map_or_else(
            |error| {
                let hint = out_of_mappings(&error);
                tracing::warn!(layer = spec.id.0, %error, hint, "mapping failed; copying instead");
                Err(CopyReason::System)
            },
            |watch| watch.ok_or(CopyReason::Pages),
        )
    }

    fn no_pages(&self, layer: &Layer, error: &std::io::Error) -> Error {
        Error::OutOfMemory {
            engine: self.capabilities.engine,
            what: "fresh pages for a released layer",
            asked: layer.spec.bytes.next_multiple_of(PAGE),
            reason: format!("{error}{}", out_of_mappings(error)),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // A panic in here is caught at the host function; the state is whole between calls.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What to do if it is mappings that the system has no more of.
fn out_of_mappings(error: &std::io::Error) -> &'static str {
    if cfg!(target_os = "linux") && error.kind() == std::io::ErrorKind::OutOfMemory {
        " (or the process has as many mappings as vm.max_map_count allows: map fewer layers, or \
         raise it by sysctl)"
    } else {
        ""
    }
}

//! The layers of a guest as its host has them: registered, loaded, released.

use std::ops::Range;
use std::time::{Duration, Instant};

use polychord_abi::PAGE;
use polychord_plan::{LayerHash, LayerId};
use sha2::{Digest as _, Sha256};

use super::{ANY_KIND, Host, State};
use crate::layers::layer::{CopyReason, Layer, LayerSpec, LoadMethod, LoadedLayer};
use crate::memory::mapping;
use crate::memory::mapping::Watch;
use crate::memory::place::Place;
use crate::memory::segment::LinearMemories;
use crate::memory::space::Memories;
use crate::memory::stats::MemoryId;
use crate::{Error, Result};

/// Compares a layer with what it has to be.
fn compare(spec: &LayerSpec, expected: LayerHash, found: Sha256) -> Result<()> {
    let found = LayerHash(found.finalize().into());
    if found == expected {
        return Ok(());
    }
    let (layer, name) = (spec.id.0, spec.name.clone());
    Err(Error::LayerChanged { layer, name, expected: expected.into(), found: found.into() })
}

/// Smaller layers may lie far apart, where huge pages would use more memory than they have bytes.
const WORTH_HUGE_PAGES: u64 = 1 << 20;

/// Whether a guest is in the middle of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum CallState {
    /// No: its pages may be exchanged.
    Idle,
    /// Yes: bytes may be written, but pages stay what they are.
    Running,
}

impl Host {
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
        guest: &mut dyn LinearMemories,
        id: LayerId,
        when: CallState,
        read: Option<&[u8]>,
    ) -> Result<LoadedLayer> {
        self.load(&mut self.state(), guest, id, when, read)
    }

    /// Does what [`load_layer`](Self::load_layer) does, for callers that hold the lock.
    fn load(
        &self,
        state: &mut State,
        guest: &mut dyn LinearMemories,
        id: LayerId,
        when: CallState,
        read: Option<&[u8]>,
    ) -> Result<LoadedLayer> {
        let start = Instant::now();
        let State { memories, layers, .. } = state;
        let layer = layers.get_mut(id)?;
        let LayerSpec { memory, offset, bytes, .. } = layer.spec;
        let address = memories.guest_address(memory, offset)?;
        match layer.loaded {
            Some(method) if !layer.is_lost() => {
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
        let mut at = Parts::of(memories, guest, layer)?;
        let watches = match when {
            CallState::Running => Err(CopyReason::GuestRuns),
            CallState::Idle if address.is_none() => Err(CopyReason::HostMemory),
            CallState::Idle if read.is_some() => Err(CopyReason::ReadAhead),
            CallState::Idle => self.map(&mut at, &layer.spec)?,
        };
        let (mapped, reason) = (watches.is_ok(), watches.as_ref().err().copied());
        match watches {
            Ok(watches) => layer.watches = watches,
            Err(reason) => {
                let LayerSpec { source, bytes, .. } = &layer.spec;
                let pages_stay = matches!(reason, CopyReason::GuestRuns | CopyReason::HostMemory);
                // Where layers come and go as files, these divide mappings enough.
                if !pages_stay && !source.is_mapped() && *bytes >= WORTH_HUGE_PAGES {
                    at.want_huge_pages();
                }
                self.copy(&mut at, layer, read)?;
            }
        }
        if let Some(expected) = layer.expected {
            let mut hash = Sha256::new();
            at.each(|place, _| {
                hash.update(place.bytes());
                Ok(())
            })?;
            if let Err(changed) = compare(&layer.spec, expected, hash) {
                self.clear(&mut at, &layer.spec, &layer.watches)?;
                layer.watches.clear();
                layer.loaded = None;
                return Err(changed);
            }
        }
        layer.reason = reason;
        let method = if mapped { LoadMethod::Mapped } else { LoadMethod::Copied };
        layer.loaded = Some(method);
        let took = start.elapsed();
        self.counters.load(bytes, mapped, took);
        memories.count_load(memory, took);
        if when == CallState::Running {
            self.copied_in_call(&layer.spec, took);
        } else {
            tracing::debug!(layer = id.0, bytes, ?method, ?took, "layer loaded");
        }
        Ok(LoadedLayer { address, bytes, method, took, reason })
    }

    /// Says that a guest got a copy because it asked before the host had loaded the layer.
    fn copied_in_call(&self, spec: &LayerSpec, took: Duration) {
        self.counters.copied_in_call();
        let (layer, name, bytes) = (spec.id.0, &spec.name, spec.bytes);
        let Some(left_out) = self.events.admit() else { return };
        if spec.source.is_mapped() && self.capabilities.mapping {
            tracing::warn!(
                layer,
                name,
                bytes,
                ?took,
                left_out,
                "a running guest asked for a layer that was not loaded: it was copied, though its \
                 file could be mapped. Load it before the call, by load_layer or add_layers"
            );
        } else {
            tracing::debug!(
                layer,
                name,
                bytes,
                ?took,
                left_out,
                "layer copied in the middle of a call"
            );
        }
    }

    /// Copies a layer to its place, from its source or from where its bytes were read to. If that
    /// fails, the place is zeros, and the layer not loaded.
    fn copy(&self, at: &mut Parts<'_>, layer: &mut Layer, read: Option<&[u8]>) -> Result<()> {
        if layer.watches.is_empty() {
            at.each(|place, _| {
                place.clear_around();
                Ok(())
            })?;
        } else {
            self.clear(at, &layer.spec, &layer.watches)?;
            layer.watches.clear();
            layer.loaded = None;
        }
        let done = match read.filter(|read| read.len() as u64 == layer.spec.bytes) {
            Some(read) => at.each(|place, skip| {
                let (to, skip) = (place.bytes(), usize::try_from(skip).unwrap_or(usize::MAX));
                to.copy_from_slice(&read[skip..skip + to.len()]);
                Ok(())
            }),
            None => self.read_source(at, &layer.spec),
        };
        if done.is_err() {
            self.clear(at, &layer.spec, &[])?;
        }
        done
    }

    /// Makes all of a layer's 64 KiB pages zero; `watches` are those of its parts, if it is mapped.
    fn clear(&self, at: &mut Parts<'_>, spec: &LayerSpec, watches: &[Watch]) -> Result<()> {
        let mut watches = watches.iter();
        at.each(|place, _| place.clear(watches.next()).map_err(|error| self.no_pages(spec, &error)))
    }

    /// Brings a layer into the guest's linear memories while the guest is running, and returns
    /// its address there. A layer of a memory in the host has none, and is not loaded.
    pub(crate) fn map_layer(&self, guest: &mut dyn LinearMemories, id: LayerId) -> Result<u64> {
        let not_enabled =
            |kind| Error::NotEnabled { operation: polychord_abi::import::MAP_LAYER, kind };
        let mut state = self.state();
        if state.memories.is_empty() {
            return Err(not_enabled(ANY_KIND));
        }
        let address = match state.in_guest(id)? {
            true => self.load(&mut state, guest, id, CallState::Running, None)?.address,
            false => None,
        };
        address.ok_or_else(|| not_enabled("in the guest's own linear memory"))
    }

    /// Takes a layer out of its memory, which reads as zeros from then on.
    pub(crate) fn release_layer(&self, guest: &mut dyn LinearMemories, id: LayerId) -> Result<()> {
        let mut state = self.state();
        let State { memories, layers, .. } = &mut *state;
        let layer = layers.get_mut(id)?;
        if layer.loaded.is_none() {
            return Ok(());
        }
        let mut at = Parts::of(memories, guest, layer)?;
        self.keep(&mut at, &layer.spec)?;
        self.clear(&mut at, &layer.spec, &layer.watches)?;
        layer.loaded = None;
        layer.watches.clear();
        self.counters.release();
        if tracing::enabled!(tracing::Level::DEBUG)
            && let Some(left_out) = self.events.admit()
        {
            tracing::debug!(layer = id.0, left_out, "layer released");
        }
        Ok(())
    }

    /// Reads a layer to its place, where its bytes then are, if no file has them.
    fn read_source(&self, at: &mut Parts<'_>, spec: &LayerSpec) -> Result<()> {
        let start = Instant::now();
        at.each(|place, skip| spec.source.read_at(spec.source_offset + skip, place.bytes()))?;
        let len = usize::try_from(spec.bytes).unwrap_or(usize::MAX);
        if let Some(anonymous) = spec.source.as_anonymous()
            && anonymous.forget(spec.source_offset, len)?
        {
            self.counters.decompression(start.elapsed());
        }
        Ok(())
    }

    /// Keeps the bytes of a layer before it is released, if no file has them.
    fn keep(&self, at: &mut Parts<'_>, spec: &LayerSpec) -> Result<()> {
        let Some(anonymous) = spec.source.as_anonymous() else { return Ok(()) };
        let (start, mut compressed) = (Instant::now(), 0);
        at.each(|place, skip| {
            compressed += anonymous.keep(spec.source_offset + skip, place.bytes())?;
            Ok(())
        })?;
        let took = start.elapsed();
        self.counters.compression(spec.bytes, compressed, took);
        tracing::debug!(layer = spec.id.0, bytes = spec.bytes, compressed, ?took, "compressed");
        Ok(())
    }

    /// Releases a layer and forgets it.
    pub(crate) fn unregister_layer(
        &self,
        guest: &mut dyn LinearMemories,
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
        guest: &mut dyn LinearMemories,
        id: LayerId,
        to: Range<u64>,
    ) -> Result<u64> {
        let start = Instant::now();
        let mut state = self.state();
        let State { memories, layers, .. } = &mut *state;
        let layer = layers.get_mut(id)?;
        let bytes = layer.spec.bytes;
        let room = to.end - to.start;
        if bytes > room || i32::try_from(bytes).is_err() {
            let given = room.min(i32::MAX as u64);
            return Err(Error::BufferTooSmall {
                operation: "memory64_load_layer",
                given,
                needed: bytes,
            });
        }
        let to = to.start..to.start + bytes;
        if layer.loaded.is_some() {
            let address = memories.address(layer.spec.memory, layer.spec.offset, bytes)?;
            memories.copy_out(guest, address, to)?;
            self.counters.read(bytes);
        } else {
            let LayerSpec { source, source_offset, .. } = &layer.spec;
            let mut hash = layer.expected.map(|expected| (expected, Sha256::new()));
            self.view.fill(guest, 0, to, |skip, part| {
                source.read_at(source_offset + skip, part)?;
                if let Some((_, hash)) = &mut hash {
                    hash.update(part);
                }
                Ok(())
            })?;
            if let Some((expected, hash)) = hash {
                compare(&layer.spec, expected, hash)?;
            }
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

    /// Ends the care for all that is mapped, as the guest's memories are about to go.
    pub(crate) fn forget_mapped(&self) {
        let mut state = self.state();
        state.layers.forget_mapped();
        state.shown.clear();
    }

    /// How long a layer is.
    pub(crate) fn layer_bytes(&self, id: LayerId) -> Result<u64> {
        Ok(self.state().layers.get_mut(id)?.spec.bytes)
    }

    /// Checks that a layer exists; hints are about nothing else yet.
    pub(crate) fn hint(&self, id: LayerId) -> Result<()> {
        self.state().layers.get_mut(id).map(|_| ())
    }

    /// Maps a layer's pages, if the engine, the source and the alignment allow it. The source has
    /// just been found long enough.
    #[allow(unsafe_code, reason = "the contract of the mapping module is met here")]
    fn map(&self, at: &mut Parts<'_>, spec: &LayerSpec) -> Result<Result<Vec<Watch>, CopyReason>> {
        let Some(file) = spec.source.mapped_file() else { return Ok(Err(CopyReason::Source)) };
        if !self.capabilities.mapping {
            return Ok(Err(CopyReason::Engine));
        }
        let (mut watches, mut refused) = (Vec::with_capacity(1), None);
        at.each(|place, skip| {
            if refused.is_some() {
                return Ok(());
            }
            // SAFETY: the file has the whole range, and the caller of `Source::open_mapped` promised
            // that it stays so.
            match unsafe { place.map(file, spec.source_offset + skip) } {
                Ok(Some(watch)) => watches.push(watch),
                Ok(None) => refused = Some(CopyReason::Pages),
                Err(error) => {
                    let hint = out_of_mappings(&error);
                    tracing::warn!(layer = spec.id.0, %error, hint, "mapping failed; copying instead");
                    refused = Some(CopyReason::System);
                }
            }
            Ok(())
        })?;
        let Some(reason) = refused else { return Ok(Ok(watches)) };
        if !watches.is_empty() {
            self.clear(at, spec, &watches)?;
        }
        Ok(Err(reason))
    }

    fn no_pages(&self, spec: &LayerSpec, error: &std::io::Error) -> Error {
        Error::OutOfMemory {
            engine: self.capabilities.engine,
            what: "fresh pages for a released layer",
            asked: spec.bytes.next_multiple_of(PAGE),
            reason: format!("{error}{}", out_of_mappings(error)),
        }
    }
}

/// The place of a layer: one part, unless its memory was lowered and the layer is on both sides of the edge
/// of two segments.
struct Parts<'a> {
    memories: &'a mut Memories,
    guest: &'a mut dyn LinearMemories,
    memory: MemoryId,
    ranges: Vec<Range<u64>>,
}

impl<'a> Parts<'a> {
    fn of(
        memories: &'a mut Memories,
        guest: &'a mut dyn LinearMemories,
        layer: &Layer,
    ) -> Result<Self> {
        let memory = layer.spec.memory;
        let ranges = memories.parts(memory, layer.range())?;
        Ok(Self { memories, guest, memory, ranges })
    }

    /// Does something with each part, given how many bytes of the layer are before it.
    fn each(&mut self, mut work: impl FnMut(&mut Place<'_>, u64) -> Result<()>) -> Result<()> {
        let start = self.ranges.first().map_or(0, |first| first.start);
        for range in &self.ranges {
            let mut place = self.memories.place(self.guest, self.memory, range)?;
            work(&mut place, range.start - start)?;
        }
        Ok(())
    }
}

impl Parts<'_> {
    /// Asks for huge pages for the memory that the layer is in.
    fn want_huge_pages(&mut self) {
        self.memories.want_huge_pages(self.guest, self.memory);
    }
}

impl State {
    /// Whether a layer belongs to a memory in the guest's linear memories.
    fn in_guest(&mut self, id: LayerId) -> Result<bool> {
        let memory = self.layers.get_mut(id)?.spec.memory;
        self.memories.is_in_guest(memory)
    }
}

/// What to do if it is mappings that the system has no more of.
pub(super) fn out_of_mappings(error: &std::io::Error) -> &'static str {
    if cfg!(target_os = "linux") && error.kind() == std::io::ErrorKind::OutOfMemory {
        " (or the process has as many mappings as vm.max_map_count allows: map fewer layers, or \
         raise it by sysctl)"
    } else {
        ""
    }
}

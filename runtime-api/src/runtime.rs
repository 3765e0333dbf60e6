use std::sync::Arc;

use polychord_abi::PAGE;

use crate::host::{Guest, Host};
use crate::layer::{LayerId, LayerSpec, LoadedLayer};
use crate::memory::{MemoryId, MemoryStats};
use crate::module::{FunctionType, ModuleInfo};
use crate::ranks::Rank;
use crate::region::{MemoryKind, MemorySpec, Region};
use crate::segment::{self, LinearMemories, Segment};
use crate::value::{Value, ValueType};
use crate::{Error, Result, Stats};

/// One live guest with its linear memories: the host API.
///
/// A backend implements [`LinearMemories`] and the first three methods, which translate; the
/// rest is the same on every engine. The runtime may move between threads, but one call runs
/// at a time.
pub trait Runtime: LinearMemories + Send {
    /// The host's side of this guest.
    fn host(&self) -> &Arc<Host>;

    /// Grows the linear memory of this index by whole pages of 64 KiB and returns its size
    /// before, in pages. Called with a size that the limits allow.
    ///
    /// # Errors
    ///
    /// [`Error::OutOfMemory`] if the engine cannot grow it.
    fn grow(&mut self, memory: usize, pages: u64) -> Result<u64>;

    /// Calls an exported function and stores its results.
    /// Called with a name, and numbers and types of values, that the module has.
    ///
    /// # Errors
    ///
    /// [`Error::Trap`] if the guest traps or exceeds its time.
    fn invoke(&mut self, export: &str, args: &[Value], results: &mut [Value]) -> Result<()>;

    /// The linear memory that the guest exports as `memory`; empty if it exports none. Others
    /// are seen by [`linear_memory`](LinearMemories::linear_memory).
    fn memory(&self) -> &[u8] {
        self.linear_memory(0)
    }

    /// The same, to write to.
    fn memory_mut(&mut self) -> &mut [u8] {
        self.linear_memory_mut(0)
    }

    /// Makes a 64-bit memory behind the guest's imports. The memories of a runtime form one
    /// space of addresses, each beginning where the one before it ends.
    ///
    /// A memory in a guest with several 32-bit linear memories is put into the first that has
    /// room for all of it, or into as many as it takes: one that is exported by the name of the
    /// memory's first region before the others, then those with an index of 1 or more in
    /// order, and the one with the guest's own data last.
    /// [`memory_stats`](Self::memory_stats) says what became of it.
    ///
    /// # Errors
    ///
    /// [`Error::InvalidMemory`] if it is described wrongly, [`Error::TooLarge`] if a region has
    /// no bytes or more than the limits allow, and [`Error::OutOfMemory`] if there is not so
    /// much.
    fn create_memory64(&mut self, spec: &MemorySpec) -> Result<MemoryId> {
        let host = self.host().clone();
        let created = spec.layout().and_then(|regions| {
            let segments = match spec.kind {
                MemoryKind::Host => None,
                MemoryKind::Guest => Some(self.reserve(&regions)?),
            };
            host.add_memory(regions, segments)
        });
        host.counted(created)
    }

    /// A region of a memory as it is now.
    ///
    /// # Errors
    ///
    /// [`Error::MemoryNotFound`] or [`Error::RegionNotFound`].
    fn region(&self, memory: MemoryId, name: &str) -> Result<Region> {
        let host = self.host();
        host.counted(host.region(memory, name))
    }

    /// Makes a region larger by so many bytes, in whole pages of zeros, and returns its size
    /// before. Nothing moves: what it may grow to was set aside when the memory was made.
    ///
    /// # Errors
    ///
    /// [`Error::TooLarge`] beyond its largest size; [`Error::MemoryNotFound`] or
    /// [`Error::RegionNotFound`].
    fn grow_region(&mut self, memory: MemoryId, name: &str, bytes: u64) -> Result<u64> {
        let host = self.host();
        host.counted(host.grow_region(memory, name, bytes))
    }

    /// Registers a layer: from then on the guest can ask for it by its number.
    ///
    /// # Errors
    ///
    /// [`Error::MemoryNotFound`] if its memory was not made, [`Error::InvalidLayer`] if its
    /// number is taken, if it has no bytes, leaves its memory or its source, crosses the edge
    /// of a segment, or shares a page with another layer.
    fn register_layer(&mut self, spec: LayerSpec) -> Result<()> {
        let host = self.host();
        host.counted(host.register_layer(spec))
    }

    /// Brings a layer into its memory, by mapping or copying as its source says, unless it is
    /// there already. Where pages cannot be mapped they are copied; the result says how.
    ///
    /// # Errors
    ///
    /// [`Error::LayerNotFound`] if it is not registered, [`Error::Truncated`] or
    /// [`Error::Io`] if its source cannot be read. The layer is then not loaded.
    fn load_layer(&mut self, id: LayerId) -> Result<LoadedLayer> {
        let host = self.host().clone();
        host.counted(host.load_layer(self, id, Guest::Idle, None))
    }

    /// The same, with the layer's bytes where they were read before.
    #[doc(hidden)]
    fn load_layer_from(&mut self, id: LayerId, bytes: &[u8]) -> Result<LoadedLayer> {
        let host = self.host().clone();
        host.counted(host.load_layer(self, id, Guest::Idle, Some(bytes)))
    }

    /// Takes a layer out of its memory and gives the pages back; they read as zeros. What was
    /// written there is gone, unless its source is [anonymous](crate::Source::anonymous): it is
    /// then compressed until the layer is loaded again. Does nothing if it is not loaded.
    ///
    /// # Errors
    ///
    /// [`Error::LayerNotFound`] if it is not registered; [`Error::TooLarge`] or
    /// [`Error::OutOfMemory`] if it cannot be compressed for lack of room, or pages cannot be
    /// exchanged. The layer then stays.
    fn release_layer(&mut self, id: LayerId) -> Result<()> {
        let host = self.host().clone();
        host.counted(host.release_layer(self, id))
    }

    /// Releases a layer and forgets it: its number and its place are free for another one, also
    /// for one with the same bytes of an anonymous source.
    ///
    /// # Errors
    ///
    /// As [`release_layer`](Self::release_layer).
    fn unregister_layer(&mut self, id: LayerId) -> Result<()> {
        let host = self.host().clone();
        host.counted(host.unregister_layer(self, id))
    }

    /// Copies from a memory made by `create_memory64`. A layer's bytes are there once it is
    /// loaded; bytes that nobody wrote are zero.
    ///
    /// # Errors
    ///
    /// [`Error::MemoryNotFound`] or [`Error::OutOfRange`], and [`Error::Truncated`] if a mapped
    /// layer is not in its file any more.
    fn read_memory64(&self, memory: MemoryId, offset: u64, out: &mut [u8]) -> Result<()> {
        let host = self.host();
        host.before_use();
        let read = host
            .address(memory, offset, out.len() as u64)
            .and_then(|address| host.read(self, address, out))
            .and_then(|()| host.after_use());
        host.counted(read)
    }

    /// Copies to a memory made by `create_memory64`.
    ///
    /// # Errors
    ///
    /// [`Error::MemoryNotFound`] or [`Error::OutOfRange`].
    fn write_memory64(&mut self, memory: MemoryId, offset: u64, data: &[u8]) -> Result<()> {
        let host = self.host().clone();
        let written = host
            .address(memory, offset, data.len() as u64)
            .and_then(|address| host.write(self, address, data));
        host.counted(written)
    }

    /// Makes the guest one of several that compute together.
    ///
    /// # Errors
    ///
    /// [`Error::HasRank`] if it is one already.
    fn join(&mut self, rank: Rank) -> Result<()> {
        let host = self.host();
        host.counted(host.join(rank))
    }

    /// What the guest calls the first byte of a memory by, as
    /// [`LoadedLayer::address`] does; none if it is in the host.
    ///
    /// # Errors
    ///
    /// [`Error::MemoryNotFound`].
    fn memory_address(&self, memory: MemoryId) -> Result<Option<u64>> {
        let host = self.host();
        host.counted(host.guest_start(memory))
    }

    /// What the memories were used for, since the guest was started.
    fn stats(&self) -> Stats {
        self.host().stats(self)
    }

    /// What became of each memory made by `create_memory64`. Asks the system about every page
    /// of them, which takes a millisecond or so for each GiB.
    fn memory_stats(&self) -> Vec<MemoryStats> {
        self.host().memory_stats(self)
    }

    /// Calls an exported function.
    ///
    /// # Errors
    ///
    /// [`Error::MissingExport`] or [`Error::Signature`] if there is no such function,
    /// [`Error::Trap`] if the guest traps or exceeds its time, and [`Error::Truncated`] if a
    /// mapped layer is not in its file any more; the guest's results are then worth nothing,
    /// until the layer is loaded again.
    fn call(&mut self, export: &str, args: &[Value]) -> Result<Vec<Value>> {
        let mut results = self.check_call(export, args)?;
        run(self, export, args, &mut results)?;
        Ok(results)
    }

    /// Calls an exported function and stores its results, without allocating anything.
    ///
    /// # Errors
    ///
    /// As [`call`](Self::call), and [`Error::Signature`] if it has not as many results.
    fn call_into(&mut self, export: &str, args: &[Value], results: &mut [Value]) -> Result<()> {
        let module = self.host().module();
        let ty = function(module, export, args)?;
        if ty.results.len() != results.len() {
            let given = args.iter().map(|value| value.ty());
            return Err(signature(export, ty, given, Some(results.len())));
        }
        run(self, export, args, results)
    }

    /// Checks a call against the module and makes room for its results.
    #[doc(hidden)]
    fn check_call(&self, export: &str, args: &[Value]) -> Result<Vec<Value>> {
        let ty = function(self.host().module(), export, args)?;
        Ok(ty.results.iter().copied().map(ValueType::zero).collect())
    }

    /// Grows the guest's linear memories by ranges that belong to the host. A guest's
    /// allocator owns only what it grew itself.
    #[doc(hidden)]
    fn reserve(&mut self, regions: &[Region]) -> Result<Vec<Segment>> {
        let host = self.host().clone();
        let bytes = regions.last().map_or(0, |last| last.offset + last.max_bytes);
        let exported = host.module().memories();
        let mut memories = segment::candidates(exported);
        let is_other = |name: &str| regions.first().is_none_or(|region| region.name != name);
        memories.sort_by_key(|index| is_other(&exported[*index].name));
        if memories.is_empty() {
            return Err(Error::NotEnabled {
                operation: "a memory in the guest",
                kind: "in a guest that exports a linear memory named `memory`",
            });
        }
        let rooms: Vec<_> =
            memories.into_iter().map(|index| (index, host.room(self, index))).collect();
        // Memories that belong to the host stay apart while there are linear memories for them.
        let unused = rooms.iter().filter(|(index, _)| *index != 0 && !host.has_segment_in(*index));
        let unused: Vec<_> = unused.filter(|(_, room)| *room >= bytes).copied().collect();
        let parts = segment::divide(bytes, &unused).or_else(|| segment::divide(bytes, &rooms));
        let Some(parts) = parts else {
            let size = |(index, _): &(usize, u64)| self.linear_memory(*index).len() as u64;
            let now: u64 = rooms.iter().map(size).sum();
            return Err(Error::TooLarge {
                what: format!("the guest's memory of {now} bytes, grown"),
                asked: now.saturating_add(bytes),
                limit: rooms.iter().fold(now, |sum, (_, room)| sum.saturating_add(*room)),
                limited_by: host.limited_by(),
            });
        };
        let segment = |(memory, bytes)| {
            let start = self.grow(memory, bytes / PAGE)? * PAGE;
            Ok(Segment { memory, start, bytes })
        };
        parts.into_iter().map(segment).collect()
    }
}

/// The type of an exported function that takes these arguments.
fn function<'a>(module: &'a ModuleInfo, export: &str, args: &[Value]) -> Result<&'a FunctionType> {
    let functions = module.functions();
    let Some(ty) = functions.get(export) else {
        let available = functions.keys().cloned().collect();
        return Err(Error::MissingExport { export: export.to_owned(), available });
    };
    let given = args.iter().map(|value| value.ty());
    if given.clone().eq(ty.params.iter().copied()) {
        return Ok(ty);
    }
    Err(signature(export, ty, given, None))
}

/// The error of a call that has other arguments than the function, or room for so many results.
fn signature(
    export: &str,
    ty: &FunctionType,
    given: impl Iterator<Item = ValueType>,
    room: Option<usize>,
) -> Error {
    let given: Vec<_> = given.map(|ty| ty.to_string()).collect();
    let room = room.map(|count| format!(" with room for {count} results")).unwrap_or_default();
    let (export, expected) = (export.to_owned(), ty.to_string());
    Error::Signature { export, expected, given: format!("({}){room}", given.join(", ")) }
}

/// Calls a function that the module has.
fn run(
    runtime: &mut (impl Runtime + ?Sized),
    export: &str,
    args: &[Value],
    results: &mut [Value],
) -> Result<()> {
    let _span = tracing::trace_span!("call", export).entered();
    let host = runtime.host().clone();
    let rank = host.rank();
    if let Some(rank) = rank {
        rank.begin_call(host.limits().call_time);
    }
    host.before_use();
    let done = runtime.invoke(export, args, results);
    // What was lost explains whatever followed from it.
    let done = host.counted(host.after_use()).and(done);
    match rank {
        Some(rank) => rank.end_call(host.capabilities().engine, export, done),
        None => done,
    }
}

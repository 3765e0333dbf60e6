use std::ops::Range;
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
    /// of their regions, which takes a millisecond or so for each GiB.
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

    /// Calls an exported function and stores its results where the caller has room for them. Nothing
    /// is allocated for it here; an engine may allocate for functions of other types than those of
    /// the transformer guest, and for calls that have a time limit.
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
            return Err(Error::NoGuestMemory {
                operation: "create_memory64",
                exported: host.module().memory_names().to_vec(),
            });
        }
        let room = |index| host.room(self, index) + host.spare(self, index).map_or(0, length);
        let rooms: Vec<_> = memories.into_iter().map(|index| (index, room(index))).collect();
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
        let mut segments = Vec::with_capacity(parts.len());
        for (memory, bytes) in parts {
            match self.reserve_segment(memory, bytes) {
                Ok(segment) => segments.push(segment),
                Err(error) => {
                    host.keep_spare(segments);
                    return Err(error);
                }
            }
        }
        Ok(segments)
    }

    /// Grows one linear memory, by as much as is not left from a memory that could not be made.
    #[doc(hidden)]
    fn reserve_segment(&mut self, memory: usize, bytes: u64) -> Result<Segment> {
        let host = self.host().clone();
        let spare = host.spare(self, memory);
        let left = spare.clone().map_or(0, length);
        let mut start = spare.map(|spare| spare.start);
        if bytes > left {
            let end = self.grow(memory, (bytes - left) / PAGE)? * PAGE;
            start.get_or_insert(end);
        }
        let start = start.unwrap_or(0);
        let rest = left.saturating_sub(bytes);
        host.keep_spare([Segment { memory, start: start + bytes, bytes: rest }]);
        Ok(Segment { memory, start, bytes })
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

const fn length(range: Range<u64>) -> u64 {
    range.end - range.start
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::idle::Idle;
    use crate::region::{ACTIVATIONS, EMBEDDINGS, KV, RegionSpec, WEIGHTS};

    /// What one linear memory was grown by is not lost if another cannot be grown.
    #[test]
    fn a_memory_that_cannot_be_made_takes_nothing() {
        let mut guest = Idle::start(3);
        let spec = |pages| MemorySpec::guest(pages * PAGE);
        guest.stuck = Some(2);
        assert!(matches!(guest.create_memory64(&spec(14)), Err(Error::OutOfMemory { .. })));
        assert_eq!(guest.memories[1].len() as u64, 8 * PAGE);
        // What is left is divided, and then used together with all that there is.
        let small = guest.create_memory64(&spec(3)).unwrap();
        guest.stuck = None;
        let large = guest.create_memory64(&spec(21)).unwrap();
        let stats = guest.memory_stats();
        let segment = |memory, start, pages| {
            let (start, bytes) = (start * PAGE, pages * PAGE);
            Segment { memory, start, bytes }
        };
        assert_eq!(stats[small.0 as usize].segments, [segment(1, 0, 3)]);
        let rest = [segment(1, 3, 5), segment(2, 0, 8), segment(0, 0, 8)];
        assert_eq!(stats[large.0 as usize].segments, rest);
        guest.write_memory64(large, 4 * PAGE, &[7; 3 * 65_536]).unwrap();
        let mut read = vec![0; 3 * 65_536];
        guest.read_memory64(large, 4 * PAGE, &mut read).unwrap();
        assert!(read.iter().all(|byte| *byte == 7));
        assert!(matches!(guest.create_memory64(&spec(1)), Err(Error::TooLarge { .. })));
    }

    /// What a guest has grown behind it is not taken from the guest.
    #[test]
    fn what_is_left_ends_where_the_guest_begins() {
        let mut guest = Idle::start(2);
        guest.stuck = Some(0);
        assert!(guest.create_memory64(&MemorySpec::guest(9 * PAGE)).is_err());
        guest.memories[1].truncate(4 * 65_536);
        guest.stuck = None;
        let id = guest.create_memory64(&MemorySpec::guest(4 * PAGE)).unwrap();
        let segments = &guest.memory_stats()[id.0 as usize].segments;
        assert_eq!(segments[..], [Segment { memory: 1, start: 4 * PAGE, bytes: 4 * PAGE }]);
    }

    #[test]
    fn a_guest_without_the_memory_is_told_to_export_it() {
        for (wat, expected) in [
            ("(module (memory (export \"mem\") 1))", "it exports mem:"),
            ("(module (memory 1))", "--export-memory"),
        ] {
            let mut guest = Idle::of(wat);
            let error = guest.create_memory64(&MemorySpec::guest(PAGE)).unwrap_err().to_string();
            assert!(error.contains("`memory`") && error.contains(expected), "{error}");
        }
    }

    /// The single layout has all regions in one memory, the multi layout a memory for each: the
    /// same names, sizes and bytes, whichever was chosen.
    #[test]
    fn single_and_multi_layouts_have_the_same_regions() {
        let regions = [(WEIGHTS, 3, 3), (KV, 1, 4), (ACTIVATIONS, 2, 2), (EMBEDDINGS, 1, 2)];
        let specs =
            || regions.map(|(name, size, max)| RegionSpec::growable(name, size * PAGE, max * PAGE));
        for kind in [MemoryKind::Guest, MemoryKind::Host] {
            let mut guest = Idle::start(1);
            let single = guest.create_memory64(&MemorySpec::new(kind, specs())).unwrap();
            let multi: Vec<_> = MemorySpec::each(kind, specs())
                .map(|spec| guest.create_memory64(&spec).unwrap())
                .collect();
            assert_eq!((guest.memory_stats().len(), multi.len()), (5, 4));
            for ((name, size, max), apart) in regions.into_iter().zip(multi) {
                for memory in [single, apart] {
                    let region = guest.region(memory, name).unwrap();
                    assert_eq!((region.bytes, region.max_bytes), (size * PAGE, max * PAGE));
                    assert_eq!(guest.grow_region(memory, name, PAGE).is_ok(), max > size);
                    let region = guest.region(memory, name).unwrap();
                    let last = region.offset + region.bytes - 4;
                    guest.write_memory64(memory, last, b"last").unwrap();
                    guest.write_memory64(memory, region.offset, name.as_bytes()).unwrap();
                    let behind = guest.write_memory64(memory, last + 1, b"last");
                    let is_full = region.bytes == region.max_bytes;
                    assert!(behind.is_err() || (memory == single && is_full), "{name}");
                }
                let in_single = guest.region(single, name).unwrap();
                assert_eq!(guest.region(apart, name).unwrap().bytes, in_single.bytes);
                let read = |memory, offset| {
                    let mut bytes = vec![0; usize::try_from(in_single.bytes).unwrap()];
                    guest.read_memory64(memory, offset, &mut bytes).unwrap();
                    bytes
                };
                let first = &read(apart, 0)[..name.len()];
                assert_eq!(first, name.as_bytes());
                assert_eq!(&read(single, in_single.offset)[..name.len()], name.as_bytes());
            }
        }
    }
}

//! The host API of a live guest, for all engines.

use std::any::Any;
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use polychord_abi::PAGE;
use polychord_plan::LayerId;

use crate::host::{CallState, Host, UserState};
use crate::interrupt::{self, Interrupter};
use crate::layers::layer::{LayerSpec, LoadedLayer};
use crate::memory::image::Image;
use crate::memory::region::{MemoryKind, MemorySpec, Region};
use crate::memory::segment::{self, LinearMemories, Segment};
use crate::memory::stats::{MemoryId, MemoryStats};
use crate::ranks::Rank;
use crate::runtime::Runtime;
use crate::spi::Instance;
use crate::stats::Stats;
use crate::value::{Value, ValueType};
use crate::{Error, Result, stack};

/// A live guest: the instance that an engine made, and the host that serves it.
///
/// The two are put together when the guest starts and never apart again, so nothing that the host
/// does to pages can be about those of another guest.
pub(crate) struct LiveGuest<I: Instance + ?Sized = dyn Instance + Send> {
    host: Arc<Host>,
    /// The user's state, while the guest does not run.
    state: Option<UserState>,
    instance: Box<I>,
    /// Whether the engine has panicked in a call: what it has left is not known, and no further call is made.
    is_broken: bool,
}

/// What is said of an engine that panics.
pub(crate) const PANICKED: &str = "the engine panicked, which is a defect of it, or the system refused it memory: give \
                        the process more memory, mappings and address space, or try another engine";

impl<I: Instance + ?Sized> LiveGuest<I> {
    pub(crate) const fn new(host: Arc<Host>, instance: Box<I>, state: Option<UserState>) -> Self {
        Self { host, state, instance, is_broken: false }
    }

    /// Runs the module's start function, which was exported by this name for that.
    pub(crate) fn start(&mut self, export: &str) -> Result<()> {
        self.run(export, &[], &mut []).map_err(|error| error.within("the start function"))
    }

    /// The host, as host functions have it.
    #[cfg(test)]
    pub(crate) fn shared_host(&self) -> Arc<Host> {
        self.host.clone()
    }

    /// What the engine made.
    #[cfg(test)]
    pub(crate) fn instance(&mut self) -> &mut I {
        &mut self.instance
    }

    /// Calls a function that the module has.
    fn run(&mut self, export: &str, args: &[Value], results: &mut [Value]) -> Result<()> {
        let _span = tracing::trace_span!("call", export).entered();
        let Self { host, instance, state, is_broken } = self;
        let engine = host.capabilities().engine;
        if *is_broken {
            let reason = "the engine has panicked in a call before: start the guest anew";
            return Err(Error::call(engine, export, None, reason));
        }
        let rank = host.rank();
        if let Some(rank) = rank {
            rank.begin_call(host.limits().call_time);
        }
        // An engine that panics ends the call, for all ranks.
        let _guard = rank.map(Rank::stop_if_panicking);
        host.before_use();
        let has_state = state.is_some();
        if let Some(state) = state.take() {
            host.give_state(state);
        }
        // Engines panic where the system refuses them memory for a stack, say: that is an error of the call.
        let invoke = || stack::with_room(|| instance.invoke(export, args, results));
        let done = catch_unwind(AssertUnwindSafe(invoke)).unwrap_or_else(|_| {
            *is_broken = true;
            Err(Error::call(engine, export, None, PANICKED))
        });
        if has_state {
            *state = host.take_state();
        }
        let done = host.end_of_call(done);
        // What was lost explains whatever followed from it.
        let done = host.counted(host.after_use()).and(done);
        match rank {
            Some(rank) => rank.end_call(engine, export, done),
            None => done,
        }
    }

    /// Grows the guest's linear memories by ranges that belong to the host. A guest's
    /// allocator owns only what it grew itself.
    fn reserve(&mut self, regions: &[Region]) -> Result<Vec<Segment>> {
        let host = self.host.clone();
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
        let instance = &self.instance;
        let spare = |index| host.spare(instance, index).map_or(0, length);
        let room = |index| host.room(instance, index) + spare(index);
        let rooms: Vec<_> = memories.into_iter().map(|index| (index, room(index))).collect();
        // Memories that belong to the host stay apart while there are linear memories for them.
        let unused = rooms.iter().filter(|(index, _)| *index != 0 && !host.has_segment_in(*index));
        let unused: Vec<_> = unused.filter(|(_, room)| *room >= bytes).copied().collect();
        let parts = segment::divide(bytes, &unused).or_else(|| segment::divide(bytes, &rooms));
        let Some(parts) = parts else {
            let size = |(index, _): &(usize, u64)| host.view().size(&self.instance, *index);
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
    fn reserve_segment(&mut self, memory: usize, bytes: u64) -> Result<Segment> {
        let host = self.host.clone();
        let spare = host.spare(&self.instance, memory);
        let left = spare.clone().map_or(0, length);
        let mut start = spare.map(|spare| spare.start);
        if bytes > left {
            let pages = (bytes - left) / PAGE;
            let end = host.view().grow(&mut self.instance, memory, pages)? * PAGE;
            start.get_or_insert(end);
        }
        let start = start.unwrap_or(0);
        let rest = left.saturating_sub(bytes);
        host.keep_spare([Segment { memory, start: start + bytes, bytes: rest }]);
        Ok(Segment { memory, start, bytes })
    }
}

impl<I: Instance + ?Sized> Drop for LiveGuest<I> {
    /// Runs before the instance is dropped: the addresses of its mapped layers may be those of
    /// others afterwards.
    fn drop(&mut self) {
        self.host.forget_mapped();
    }
}

impl<I: Instance + ?Sized> LinearMemories for LiveGuest<I> {
    fn linear_memory(&self, index: usize) -> &[u8] {
        self.instance.linear_memory(self.host.view().first(index))
    }

    fn linear_memory_mut(&mut self, index: usize) -> &mut [u8] {
        self.instance.linear_memory_mut(self.host.view().first(index))
    }
}

impl<I: Instance + Send + ?Sized> Runtime for LiveGuest<I> {
    fn host(&self) -> &Host {
        &self.host
    }

    fn create_memory64(&mut self, spec: &MemorySpec) -> Result<MemoryId> {
        let host = self.host.clone();
        let created = spec.layout().and_then(|regions| {
            let segments = match spec.kind {
                MemoryKind::Host => None,
                MemoryKind::Guest => Some(self.reserve(&regions)?),
            };
            host.add_memory(regions, segments)
        });
        host.counted(created)
    }

    fn region(&self, memory: MemoryId, name: &str) -> Result<Region> {
        let host = self.host();
        host.counted(host.region(memory, name))
    }

    fn grow_region(&mut self, memory: MemoryId, name: &str, bytes: u64) -> Result<u64> {
        let host = self.host();
        host.counted(host.grow_region(memory, name, bytes))
    }

    fn register_layer(&mut self, spec: LayerSpec) -> Result<()> {
        let host = self.host();
        host.counted(host.register_layer(spec))
    }

    fn load_layer(&mut self, id: LayerId) -> Result<LoadedLayer> {
        let Self { host, instance, .. } = self;
        host.counted(host.load_layer(instance, id, CallState::Idle, None))
    }

    fn load_layer_from(&mut self, id: LayerId, bytes: &[u8]) -> Result<LoadedLayer> {
        let Self { host, instance, .. } = self;
        host.counted(host.load_layer(instance, id, CallState::Idle, Some(bytes)))
    }

    fn release_layer(&mut self, id: LayerId) -> Result<()> {
        let Self { host, instance, .. } = self;
        host.counted(host.release_layer(instance, id))
    }

    fn unregister_layer(&mut self, id: LayerId) -> Result<()> {
        let Self { host, instance, .. } = self;
        host.counted(host.unregister_layer(instance, id))
    }

    fn read_memory64(&self, memory: MemoryId, offset: u64, out: &mut [u8]) -> Result<()> {
        let host = self.host();
        host.before_use();
        let read = host
            .address(memory, offset, out.len() as u64)
            .and_then(|address| host.read(&self.instance, address, out))
            .and_then(|()| host.after_use());
        host.counted(read)
    }

    fn write_memory64(&mut self, memory: MemoryId, offset: u64, data: &[u8]) -> Result<()> {
        let Self { host, instance, .. } = self;
        let written = host
            .address(memory, offset, data.len() as u64)
            .and_then(|address| host.write(instance, address, data));
        host.counted(written)
    }

    fn join(&mut self, rank: Rank) -> Result<()> {
        let host = self.host();
        host.counted(host.join(rank))
    }

    fn memory_address(&self, memory: MemoryId) -> Result<Option<u64>> {
        let host = self.host();
        host.counted(host.guest_start(memory))
    }

    fn stats(&self) -> Stats {
        self.host().stats(&self.instance)
    }

    fn memory_stats(&self) -> Vec<MemoryStats> {
        self.host().memory_stats(&self.instance)
    }

    fn call(&mut self, export: &str, args: &[Value]) -> Result<Vec<Value>> {
        let ty = self.host().module().check_call(export, args, None)?;
        let mut results: Vec<_> = ty.results.iter().copied().map(ValueType::zero).collect();
        self.run(export, args, &mut results)?;
        Ok(results)
    }

    fn call_into(&mut self, export: &str, args: &[Value], results: &mut [Value]) -> Result<()> {
        self.host().module().check_call(export, args, Some(results.len()))?;
        self.run(export, args, results)
    }

    fn global(&mut self, name: &str) -> Result<Value> {
        let Self { host, instance, .. } = self;
        let (at, _) = host.module().global(name)?;
        instance.global(host.view().global(at))
    }

    fn set_global(&mut self, name: &str, value: Value) -> Result<()> {
        let Self { host, instance, .. } = self;
        let at = host.module().global_to_set(name, value)?;
        instance.set_global(host.view().global(at), value)
    }

    fn memory_bytes(&self, memory: usize) -> u64 {
        self.host.view().size(&self.instance, memory)
    }

    fn memory_slice(&self, memory: usize, range: Range<u64>) -> Option<&[u8]> {
        self.host.view().slice(&self.instance, memory, range)
    }

    fn memory_slice_mut(&mut self, memory: usize, range: Range<u64>) -> Option<&mut [u8]> {
        let Self { host, instance, .. } = self;
        host.view().slice_mut(instance, memory, range)
    }

    fn read_memory(&self, memory: usize, address: u64, out: &mut [u8]) -> Result<()> {
        self.host.view().read(&self.instance, memory, address, out)
    }

    fn write_memory(&mut self, memory: usize, address: u64, data: &[u8]) -> Result<()> {
        let Self { host, instance, .. } = self;
        host.view().write(instance, memory, address, data)
    }

    fn write_image(
        &mut self,
        memory: usize,
        address: u64,
        image: &Image,
        range: Range<u64>,
    ) -> Result<u64> {
        let Self { host, instance, .. } = self;
        host.counted(host.write_image(instance, memory, address, image, range))
    }

    fn release_image(&mut self, memory: usize, range: Range<u64>) -> Result<()> {
        let Self { host, instance, .. } = self;
        host.counted(host.release_image(instance, memory, range))
    }

    fn interrupter(&self) -> Result<Interrupter> {
        interrupt::interrupter(self.host.switch())
    }

    fn state_any(&self) -> Option<&(dyn Any + Send)> {
        self.state.as_deref()
    }

    fn state_any_mut(&mut self) -> Option<&mut (dyn Any + Send)> {
        self.state.as_deref_mut()
    }
}

const fn length(range: Range<u64>) -> u64 {
    range.end - range.start
}

#[cfg(test)]
mod tests {
    use polychord_plan::region::{ACTIVATIONS, EMBEDDINGS, KV, WEIGHTS};

    use super::*;
    use crate::capability::Capabilities;
    use crate::idle::{Idle, capabilities};
    use crate::layers::layer::LoadMethod;
    use crate::layers::source::Source;
    use crate::memory::region::RegionSpec;

    /// A layer that cannot be read, or can be read in part, leaves zeros, also around it, and the
    /// next one in its place is whole.
    #[test]
    fn what_fails_half_way_leaves_zeros() {
        let page = usize::try_from(PAGE).unwrap();
        for kind in [MemoryKind::Guest, MemoryKind::Host] {
            let mut guest = Idle::start(1);
            let spec = MemorySpec::new(kind, [RegionSpec::fixed(WEIGHTS, 4 * PAGE)]);
            let memory = guest.create_memory64(&spec).unwrap();
            guest.write_memory64(memory, 0, &vec![9; 4 * page]).unwrap();
            for whole in [0, 1, 40_000, page] {
                guest.write_memory64(memory, PAGE, &vec![9; 2 * page]).unwrap();
                let source = Source::broken(PAGE, whole);
                let layer = LayerSpec {
                    id: LayerId(1),
                    name: "broken".into(),
                    memory,
                    offset: PAGE + 100,
                    source,
                    source_offset: 0,
                    bytes: PAGE,
                };
                guest.register_layer(layer.clone()).unwrap();
                assert!(matches!(guest.load_layer(LayerId(1)), Err(Error::Io { .. })));
                let mut bytes = vec![1; 4 * page];
                guest.read_memory64(memory, 0, &mut bytes).unwrap();
                assert!(bytes[..page].iter().chain(&bytes[3 * page..]).all(|byte| *byte == 9));
                assert!(bytes[page..3 * page].iter().all(|byte| *byte == 0), "{whole}");
                guest.unregister_layer(LayerId(1)).unwrap();
                let source = Source::from_bytes(vec![5; 10]);
                guest.write_memory64(memory, PAGE, &vec![9; page]).unwrap();
                guest.register_layer(LayerSpec { source, bytes: 10, ..layer }).unwrap();
                guest.load_layer(LayerId(1)).unwrap();
                guest.read_memory64(memory, 0, &mut bytes).unwrap();
                let is_layer = |index: &usize| (page + 100..page + 110).contains(index);
                let right =
                    (page..2 * page).all(|at| bytes[at] == if is_layer(&at) { 5 } else { 0 });
                assert!(right, "{whole}");
                guest.unregister_layer(LayerId(1)).unwrap();
            }
        }
    }

    /// An engine that claims to map, but lends no pages, is copied to: the claim is a fact about
    /// an engine, and gives no right over memory.
    #[test]
    fn nothing_is_mapped_over_memory_that_is_not_lent() {
        let mut guest = Idle::claiming(1, Capabilities { mapping: true, ..capabilities() });
        let memory = guest.create_memory64(&MemorySpec::guest(4 * PAGE)).unwrap();
        let mut file = tempfile::NamedTempFile::new().unwrap();
        std::io::Write::write_all(&mut file, &[7; 65_536]).unwrap();
        #[allow(unsafe_code, reason = "no other process knows the file")]
        // SAFETY: it stays as it is.
        let source = unsafe { Source::open_mapped(file.path()).unwrap() };
        let (id, name, bytes) = (LayerId(0), String::new(), PAGE);
        let spec = LayerSpec { id, name, memory, offset: 0, source, source_offset: 0, bytes };
        guest.register_layer(spec).unwrap();
        assert_eq!(guest.load_layer(LayerId(0)).unwrap().method, LoadMethod::Copied);
        assert!(guest.memory()[..65_536].iter().all(|byte| *byte == 7));
    }

    /// What one linear memory was grown by is not lost if another cannot be grown.
    #[test]
    fn a_memory_that_cannot_be_made_takes_nothing() {
        let mut guest = Idle::start(3);
        let spec = |pages| MemorySpec::guest(pages * PAGE);
        guest.instance().stuck = Some(2);
        assert!(matches!(guest.create_memory64(&spec(14)), Err(Error::OutOfMemory { .. })));
        assert_eq!(guest.instance().memories[1].len() as u64, 8 * PAGE);
        // What is left is divided, and then used together with all that there is.
        let small = guest.create_memory64(&spec(3)).unwrap();
        guest.instance().stuck = None;
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
        guest.instance().stuck = Some(0);
        assert!(guest.create_memory64(&MemorySpec::guest(9 * PAGE)).is_err());
        guest.instance().memories[1].truncate(4 * 65_536);
        guest.instance().stuck = None;
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
            let mut guest = Idle::of(wat, crate::idle::capabilities());
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

//! A window: a memory that is smaller than all layers that share it.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::time::Instant;

use polychord_abi::PAGE;
use polychord_plan::{LayerId, SourceRange};

use crate::layers::layer::LayerSpec;
use crate::layers::source::Source;
use crate::memory::region::MemorySpec;
use crate::memory::stats::MemoryId;
use crate::paging::policy::{Policy, count_pinned, pages_of};
use crate::paging::reader::{ReadLayer, Reader};
use crate::paging::stats::PagerStats;
use crate::runtime::Runtime;
use crate::{Error, Result};

/// A window in a guest's memory, and the layers that share it.
///
/// ```
/// use polychord_runtime_api::{Pager, Policy, Result, Runtime, Source, SourceRange};
///
/// /// Uses all layers, in a window of 64 MiB.
/// fn run(guest: &mut dyn Runtime, source: Source, layers: Vec<SourceRange>) -> Result<()> {
///     let ids: Vec<_> = layers.iter().map(|layer| layer.id).collect();
///     let mut pager = Pager::new(guest, source, layers, 64 << 20, Policy::default())?;
///     for (at, id) in ids.iter().enumerate() {
///         pager.require(guest, &[*id])?;
///         pager.prefetch(guest, ids.get(at + 1..at + 2).unwrap_or_default())?;
///         guest.call("use_layer", &[])?;
///     }
///     Ok(())
/// }
/// ```
#[derive(Debug)]
pub struct Pager {
    memory: MemoryId,
    /// Size of the window, in 64 KiB pages, as all places here.
    pages: u64,
    source: Source,
    layers: BTreeMap<LayerId, Paged>,
    /// Where streamed layers may be: behind the pinned ones.
    stream: Range<u64>,
    resident: Vec<Resident>,
    /// Layers that the system has in its cache, or was asked to read there.
    advised: BTreeSet<LayerId>,
    /// Whether layers are copied, and not mapped.
    copies: bool,
    /// Whether the system has bytes of the source in its cache.
    is_cached: fn(&Source, u64, u64) -> bool,
    /// Reads ahead; started when it is first needed. What it holds counts against the room for
    /// streamed layers, so that a pager never has more than its window.
    reader: Option<Reader>,
    clock: u64,
    stats: PagerStats,
}

/// Layers of a window that are used in no order, like experts: those that were used last stay,
/// whatever the policy says about others.
///
/// ```
/// use polychord_runtime_api::{LayerId, SourceRange, UnorderedLayers};
///
/// let expert = |id| SourceRange::new(LayerId(id), format!("expert {id}"), 0, 100_000);
/// // As many as are used at once, with what is used beside them.
/// let unordered = UnorderedLayers::new((10..18).map(expert), 4 << 20);
/// assert_eq!(unordered.layers.len(), 8);
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct UnorderedLayers {
    /// The layers.
    pub layers: Vec<SourceRange>,
    /// Room in bytes that no other layer is to have for good.
    pub room: u64,
}

impl UnorderedLayers {
    /// Layers that need this many bytes of room.
    #[must_use]
    pub fn new(layers: impl IntoIterator<Item = SourceRange>, room: u64) -> Self {
        Self { layers: layers.into_iter().collect(), room }
    }
}

#[derive(Debug)]
struct Paged {
    source: SourceRange,
    /// The place of a layer that stays.
    pinned: Option<Range<u64>>,
}

#[derive(Debug)]
struct Resident {
    id: LayerId,
    place: Range<u64>,
    used: u64,
    pinned: bool,
}

impl Pager {
    /// Makes a memory of `bytes` bytes in the guest, for layers of one source in the order of
    /// their use. Loads none.
    ///
    /// # Errors
    ///
    /// Returns the errors of [`Runtime::create_memory64`].
    pub fn new(
        runtime: &mut dyn Runtime,
        source: Source,
        layers: impl IntoIterator<Item = SourceRange>,
        bytes: u64,
        policy: Policy,
    ) -> Result<Self> {
        Self::with_unordered(runtime, source, layers, UnorderedLayers::default(), bytes, policy)
    }

    /// Does what [`new`](Self::new) does, for further layers that are used in no order.
    ///
    /// # Errors
    ///
    /// Returns the errors of [`Runtime::create_memory64`].
    pub fn with_unordered(
        runtime: &mut dyn Runtime,
        source: Source,
        layers: impl IntoIterator<Item = SourceRange>,
        unordered: UnorderedLayers,
        bytes: u64,
        policy: Policy,
    ) -> Result<Self> {
        let maps = runtime.host().capabilities().mapping;
        let copies = source.is_file() && !(maps && source.is_mapped());
        let memory = runtime.create_memory64(&MemorySpec::guest(bytes))?;
        let pages = bytes.div_ceil(PAGE);
        let layers: Vec<_> = layers.into_iter().collect();
        let UnorderedLayers { layers: unordered, room } = unordered;
        let pinned = match policy {
            Policy::Pinned => count_pinned(&layers, pages.saturating_sub(room.div_ceil(PAGE))),
            Policy::Lru => 0,
        };
        let mut end = 0;
        let mut by_id = BTreeMap::new();
        for (index, source) in layers.into_iter().chain(unordered).enumerate() {
            let pinned = (index < pinned).then(|| {
                let start = end;
                end += pages_of(&source);
                start..end
            });
            by_id.insert(source.id, Paged { source, pinned });
        }
        Ok(Self {
            memory,
            pages,
            source,
            layers: by_id,
            stream: end..pages,
            resident: Vec::new(),
            advised: BTreeSet::new(),
            copies,
            is_cached: Source::is_cached,
            reader: None,
            clock: 0,
            stats: PagerStats::default(),
        })
    }

    /// Makes sure that these layers are in the window, all at once.
    ///
    /// # Errors
    ///
    /// [`Error::LayerNotFound`], [`Error::TooLarge`] if the window has no room for them
    /// together, and the errors of [`Runtime::load_layer`], also if the bytes were read ahead. Layers that
    /// were brought in stay.
    pub fn require(&mut self, runtime: &mut dyn Runtime, ids: &[LayerId]) -> Result<()> {
        self.clock += 1;
        self.check_room(ids)?;
        // What is here already stays while the rest comes in.
        let needed: BTreeSet<_> = ids.iter().collect();
        let here = self.resident.iter_mut().filter(|resident| needed.contains(&resident.id));
        here.for_each(|resident| resident.used = self.clock);
        if !self.bring_in_all(runtime, ids)? {
            // There is room, but in pieces.
            while self.evict(runtime, None)? {}
            if !self.bring_in_all(runtime, ids)? {
                return Err(self.no_room(ids));
            }
        }
        Ok(())
    }

    /// Has the bytes of layers read that will be needed next, and does not wait for them: by a
    /// thread, into the system's cache of files, if they will be mapped; if they will be copied,
    /// into memory of the host, for which layers that are not in use make room. Layers that will
    /// be copied and are in the system's cache are not read again, nor are those that there is
    /// no room for.
    ///
    /// # Errors
    ///
    /// Returns the errors of [`Runtime::unregister_layer`]. If reading fails, [`require`](Self::require) says so.
    pub fn prefetch(&mut self, runtime: &mut dyn Runtime, ids: &[LayerId]) -> Result<()> {
        self.forget_all_but(ids);
        for id in ids {
            let is_here = self.resident.iter().any(|resident| resident.id == *id);
            let is_asked = self.reader.as_ref().is_some_and(|reader| reader.has(*id));
            let Some(layer) = self.layers.get(id).filter(|_| !is_here && !is_asked) else {
                continue;
            };
            let source = layer.source.clone();
            let is_cached =
                self.copies && (self.is_cached)(&self.source, source.start, source.bytes);
            let asked = if is_cached {
                let is_new = self.advised.insert(*id);
                self.stats.prefetch_cached += u64::from(is_new);
                is_new
            } else if self.copies {
                self.read_ahead(runtime, &source)?
            } else {
                self.advise(&source)
            };
            self.stats.prefetches += u64::from(asked);
            tracing::trace!(layer = id.0, bytes = source.bytes, asked, is_cached, "prefetch");
        }
        Ok(())
    }

    /// Whether a layer is in the window.
    #[must_use]
    pub fn has(&self, id: LayerId) -> bool {
        self.resident.iter().any(|resident| resident.id == id)
    }

    /// How many of some groups of layers, one after the other, fit beside layers that are used with
    /// each of them: together with those that stay for good.
    #[must_use]
    pub fn count_fitting<'a>(
        &self,
        beside: &[LayerId],
        groups: impl IntoIterator<Item = &'a [LayerId]>,
    ) -> usize {
        let mut room = self.stream.end - self.stream.start;
        let mut take = |ids: &[LayerId]| {
            let pages = self.streamed(ids).map(pages_of).fold(0, u64::saturating_add);
            let fits = pages <= room;
            room = room.saturating_sub(pages);
            fits
        };
        if take(beside) { groups.into_iter().take_while(|group| take(group)).count() } else { 0 }
    }

    /// What was done so far.
    #[must_use]
    pub const fn stats(&self) -> PagerStats {
        self.stats
    }

    /// Brings in what is missing; false if there is no free range that is long enough.
    fn bring_in_all(&mut self, runtime: &mut dyn Runtime, ids: &[LayerId]) -> Result<bool> {
        for id in ids {
            if let Some(resident) = self.resident.iter_mut().find(|resident| resident.id == *id) {
                resident.used = self.clock;
                self.stats.hits += 1;
                continue;
            }
            let start = Instant::now();
            let Some(place) = self.make_room(runtime, *id)? else { return Ok(false) };
            let read = self.take_read(*id)?;
            let was_ahead = self.advised.remove(id) || read.is_some();
            let brought_in = self.bring_in(runtime, *id, place, read.as_deref());
            if let (Some(reader), Some(read)) = (&mut self.reader, read) {
                reader.recycle(read);
            }
            brought_in?;
            self.stats.misses += 1;
            self.stats.prefetch_hits += u64::from(was_ahead);
            self.stats.wait_nanos = self.stats.wait_nanos.saturating_add(nanos(start));
        }
        Ok(true)
    }

    fn bring_in(
        &mut self,
        runtime: &mut dyn Runtime,
        id: LayerId,
        place: Range<u64>,
        read: Option<&[u8]>,
    ) -> Result<()> {
        let Paged { source, pinned } = self.layer(id)?;
        let (bytes, pinned) = (source.bytes, pinned.is_some());
        let offset = place.start * PAGE + source.start % PAGE;
        runtime.register_layer(LayerSpec::of(source, &self.source, self.memory, offset))?;
        let loaded = match read {
            Some(read) => runtime.load_layer_from(id, read),
            None => runtime.load_layer(id),
        };
        if let Err(error) = loaded {
            runtime.unregister_layer(id)?;
            return Err(error);
        }
        self.stats.bytes_loaded += bytes;
        let index = self.resident.partition_point(|other| other.place.start < place.start);
        self.resident.insert(index, Resident { id, place, used: self.clock, pinned });
        Ok(())
    }

    /// The bytes of a layer, if they were read ahead.
    fn take_read(&mut self, id: LayerId) -> Result<Option<ReadLayer>> {
        let start = Instant::now();
        let Some(read) = self.reader.as_mut().and_then(|reader| reader.take(id)) else {
            return Ok(None);
        };
        let read = read?;
        let PagerStats { prefetch_wait_nanos, prefetch_bytes, .. } = &mut self.stats;
        *prefetch_wait_nanos = prefetch_wait_nanos.saturating_add(nanos(start));
        *prefetch_bytes += read.len() as u64;
        Ok(Some(read))
    }

    /// Has the thread read a layer, if there is room beside those that were required last.
    fn read_ahead(&mut self, runtime: &mut dyn Runtime, source: &SourceRange) -> Result<bool> {
        let pages = pages_of(source);
        loop {
            let grows_by = self.reader.as_ref().map_or(pages, |reader| reader.grows_by(pages));
            if self.has_room(grows_by) {
                break;
            }
            if !self.trim() && !self.evict(runtime, Some(self.clock))? {
                return Ok(false);
            }
        }
        Ok(self.reader().is_some_and(|reader| reader.ask(source, pages)))
    }

    /// Has the thread ask the system for a layer, once for each time that it is brought in.
    fn advise(&mut self, source: &SourceRange) -> bool {
        if !self.source.is_file() || self.advised.contains(&source.id) {
            return false;
        }
        let asked = self.reader().is_some_and(|reader| reader.advise(source));
        asked && self.advised.insert(source.id)
    }

    /// The thread that reads ahead, if there is one.
    fn reader(&mut self) -> Option<&mut Reader> {
        match &mut self.reader {
            Some(reader) => Some(reader),
            none => match Reader::start(self.source.clone()) {
                Ok(reader) => Some(none.insert(reader)),
                Err(error) => {
                    tracing::warn!(%error, "no thread to read ahead");
                    None
                }
            },
        }
    }

    /// Gives back what the reader has for no layer; false if it has nothing.
    fn trim(&mut self) -> bool {
        self.reader.as_mut().is_some_and(Reader::trim)
    }

    /// Drops what was read ahead, but for these layers; false if there is nothing to drop.
    fn forget_all_but(&mut self, ids: &[LayerId]) -> bool {
        self.reader.as_mut().is_some_and(|reader| reader.forget_all_but(ids))
    }

    /// Whether `pages` pages fit beside streamed layers and those that were read ahead.
    fn has_room(&self, pages: u64) -> bool {
        self.held() + pages <= self.stream.end - self.stream.start
    }

    /// Pages of streamed layers, and of what the reader has.
    fn held(&self) -> u64 {
        let streamed = self.resident.iter().filter(|resident| !resident.pinned);
        let used: u64 = streamed.map(|it| it.place.end - it.place.start).sum();
        used + self.reader.as_ref().map_or(0, Reader::pages)
    }

    /// Finds a place for a layer, evicting layers that are not needed until there is one,
    /// and then what was read ahead.
    fn make_room(&mut self, runtime: &mut dyn Runtime, id: LayerId) -> Result<Option<Range<u64>>> {
        let layer = self.layer(id)?;
        if let Some(place) = &layer.pinned {
            return Ok(Some(place.clone()));
        }
        let pages = pages_of(&layer.source);
        loop {
            let place = self.first_fit(pages).filter(|_| self.has_room(pages));
            if let Some(start) = place {
                return Ok(Some(start..start + pages));
            }
            let made_room = self.trim()
                || self.evict(runtime, Some(self.clock))?
                || self.forget_all_but(&[id])
                || self.reader.as_mut().is_some_and(Reader::trim_all)
                || self.forget_all_but(&[]);
            if !made_room {
                return Ok(None);
            }
        }
    }

    /// Takes out the layer that was used longest ago, but none that stays or is in use since this
    /// time; false if there is none.
    fn evict(&mut self, runtime: &mut dyn Runtime, in_use: Option<u64>) -> Result<bool> {
        let idle = self.resident.iter().filter(|it| !it.pinned && Some(it.used) != in_use);
        let Some(Resident { id, .. }) = idle.min_by_key(|it| it.used) else { return Ok(false) };
        let id = *id;
        runtime.unregister_layer(id)?;
        self.resident.retain(|resident| resident.id != id);
        self.stats.evictions += 1;
        tracing::trace!(layer = id.0, "evicted");
        Ok(true)
    }

    fn layer(&self, id: LayerId) -> Result<&Paged> {
        let registered = self.layers.len();
        self.layers.get(&id).ok_or(Error::LayerNotFound { layer: id.0, registered })
    }

    /// Checks that these layers fit beside those that stay.
    fn check_room(&self, needed: &[LayerId]) -> Result<()> {
        for id in needed {
            self.layer(*id)?;
        }
        let asked = self.streamed(needed).map(pages_of).fold(0, u64::saturating_add);
        match asked <= self.stream.end - self.stream.start {
            true => Ok(()),
            false => Err(self.no_room(needed)),
        }
    }

    /// The layers among `ids` that do not stay.
    fn streamed(&self, ids: &[LayerId]) -> impl Iterator<Item = &SourceRange> {
        let layers = ids.iter().filter_map(|id| self.layers.get(id));
        layers.filter(|layer| layer.pinned.is_none()).map(|layer| &layer.source)
    }

    fn no_room(&self, needed: &[LayerId]) -> Error {
        let names: Vec<_> = self.streamed(needed).map(|source| source.name.as_str()).collect();
        let asked = self.streamed(needed).map(pages_of).fold(0, u64::saturating_add);
        Error::TooLarge {
            what: format!("room for {} at once", names.join(" and ")),
            asked: asked.saturating_mul(PAGE),
            limit: (self.stream.end - self.stream.start) * PAGE,
            limited_by: format!("the window for layers, of {} bytes in all,", self.pages * PAGE),
        }
    }

    /// The first free range of `pages` pages.
    fn first_fit(&self, pages: u64) -> Option<u64> {
        let mut start = self.stream.start;
        let streamed = self.resident.iter().filter(|resident| !resident.pinned);
        for Resident { place, .. } in streamed {
            if place.start - start >= pages {
                return Some(start);
            }
            start = place.end;
        }
        (self.stream.end - start >= pages).then_some(start)
    }
}

fn nanos(since: Instant) -> u64 {
    u64::try_from(since.elapsed().as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use proptest::prelude::*;

    use super::*;
    use crate::idle::Idle;
    use crate::paging::policy::tests::layers;

    /// Reading ahead delays no call, and what is in the cache is not read twice.
    #[test]
    fn only_what_is_not_in_the_cache_is_read_ahead() {
        for is_cached in [true, false] {
            let mut file = tempfile::NamedTempFile::new().unwrap();
            let all: Vec<u8> = (0..=255).cycle().take(8 << 16).collect();
            file.write_all(&all).unwrap();
            let source = Source::open(file.path()).unwrap();
            let mut guest = Idle::start(1);
            let layers = layers(&[2, 2, 2, 2]);
            let mut pager = Pager::new(&mut guest, source, layers, 4 * PAGE, Policy::Lru).unwrap();
            pager.is_cached = if is_cached { |_, _, _| true } else { |_, _, _| false };
            for turn in 0..9 {
                pager.prefetch(&mut guest, &[LayerId(turn % 4)]).unwrap();
                pager.require(&mut guest, &[LayerId(turn % 4)]).unwrap();
            }
            let stats = pager.stats();
            assert_eq!((stats.misses, stats.prefetches, stats.prefetch_hits), (9, 9, 9));
            let (cached, read) = if is_cached { (9, 0) } else { (0, 9 * (2 * PAGE - 5)) };
            assert_eq!((stats.prefetch_cached, stats.prefetch_bytes), (cached, read));
        }
    }

    /// Layers that are used in no order have the room that they ask for, and those that were used
    /// last stay in it.
    #[test]
    fn unordered_layers_keep_their_room() {
        let all = layers(&[2, 2, 2, 1, 1, 1, 1, 1]);
        let source = Source::from_bytes(vec![1; 16 << 16]);
        let (ordered, unordered) = all.split_at(3);
        for (room, stays) in [(3, true), (4, false)] {
            let mut guest = Idle::start(1);
            let unordered = UnorderedLayers::new(unordered.iter().cloned(), room * PAGE);
            let mut pager = Pager::with_unordered(
                &mut guest,
                source.clone(),
                ordered.iter().cloned(),
                unordered,
                9 * PAGE,
                Policy::Pinned,
            )
            .unwrap();
            let single: Vec<_> = (3..8).map(|id| [LayerId(id)]).collect();
            let fitting = |pager: &Pager, beside: &[LayerId]| {
                pager.count_fitting(beside, single.iter().map(|id| &id[..]))
            };
            // With less room, no layer stays, and each takes a part of the window.
            assert_eq!(fitting(&pager, &[LayerId(0)]), if stays { 3 } else { 5 });
            let ids: Vec<_> = (0..3).map(LayerId).collect();
            assert_eq!(fitting(&pager, &ids), 3);
            for id in [3, 4, 5, 3, 6, 3, 4] {
                pager.require(&mut guest, &[&ids[..], &[LayerId(id)]].concat()).unwrap();
            }
            let has = (3..8).filter(|id| pager.has(LayerId(*id)));
            assert_eq!(has.collect::<Vec<_>>(), [3, 4, 6]);
            let stats = pager.stats();
            assert_eq!((stats.misses, stats.hits), (3 + 5, 6 * 3 + 2));
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        /// Whatever is required and read ahead, in whichever order: layers are whole, and pager
        /// and reader together never have more than the window.
        #[test]
        fn no_more_than_the_window_is_held(
            sizes in prop::collection::vec(1..4_u64, 4..8),
            window in 4..12_u64,
            lru in any::<bool>(),
            steps in prop::collection::vec((0..8_u32, 0..8_u32, 0..8_u32), 1..30),
        ) {
            let mut file = tempfile::NamedTempFile::new().unwrap();
            let len = usize::try_from(sizes.iter().sum::<u64>() * PAGE).unwrap();
            let all: Vec<u8> = (0..=250).cycle().take(len).collect();
            file.write_all(&all).unwrap();
            let source = Source::open(file.path()).unwrap();
            let mut guest = Idle::start(1);
            let (layers, count) = (layers(&sizes), u32::try_from(sizes.len()).unwrap());
            let policy = if lru { Policy::Lru } else { Policy::Pinned };
            let mut pager =
                Pager::new(&mut guest, source, layers.clone(), window * PAGE, policy).unwrap();
            pager.is_cached = |_, _, _| false;
            for (required, ahead, also) in steps {
                let id = LayerId(required % count);
                let fits = pager.check_room(&[id]).is_ok();
                prop_assert_eq!(pager.require(&mut guest, &[id]).is_ok(), fits);
                prop_assert!(pager.held() <= pager.stream.end - pager.stream.start);
                if fits {
                    let at = guest.load_layer(id).unwrap().address.unwrap();
                    let (at, layer) = (usize::try_from(at).unwrap(), &layers[id.0 as usize]);
                    let start = usize::try_from(layer.start).unwrap();
                    let bytes = usize::try_from(layer.bytes).unwrap();
                    prop_assert!(guest.instance().memories[0][at..at + bytes] == all[start..start + bytes]);
                }
                pager.prefetch(&mut guest, &[ahead, also].map(|id| LayerId(id % count))).unwrap();
                prop_assert!(pager.held() <= pager.stream.end - pager.stream.start);
            }
            let stats = pager.stats();
            prop_assert!(stats.prefetch_hits <= stats.misses);
        }
    }
}

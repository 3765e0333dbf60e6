//! Layers that take turns in a memory that is smaller than all of them.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::time::Instant;

use polychord_abi::PAGE;
use serde::{Deserialize, Serialize};

use crate::layer::{LayerId, LayerSpec};
use crate::memory::{MemoryId, MemorySpec};
use crate::plan::SourceRange;
use crate::runtime::Runtime;
use crate::source::Source;
use crate::{Error, Result};

/// Which layers stay when there is no room for all.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Policy {
    /// The first layers, as many as fit beside room for two others, stay for good, and the
    /// rest stream through that room. Layers are used in order for every token, so this
    /// loads the fewest.
    #[default]
    Pinned,
    /// Those that were used last. Better only if the use of layers follows no order.
    Lru,
}

/// What a pager did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct PagerStats {
    /// Layers that were in memory when they were needed.
    pub hits: u64,
    /// Layers that had to be brought in.
    pub misses: u64,
    /// Layers that made room for others.
    pub evictions: u64,
    /// Bytes brought in.
    pub bytes_loaded: u64,
    /// Misses whose bytes the system was asked for in time.
    pub prefetch_hits: u64,
    /// Time until missed layers were there, in nanoseconds. Mapped pages are read later, when
    /// the guest touches them.
    pub wait_nanos: u64,
}

/// The sum of what two pagers did.
impl std::ops::Add for PagerStats {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self {
            hits: self.hits + other.hits,
            misses: self.misses + other.misses,
            evictions: self.evictions + other.evictions,
            bytes_loaded: self.bytes_loaded + other.bytes_loaded,
            prefetch_hits: self.prefetch_hits + other.prefetch_hits,
            wait_nanos: self.wait_nanos.saturating_add(other.wait_nanos),
        }
    }
}

/// A window in a guest's memory, and the layers that take turns in it.
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
    prefetched: BTreeSet<LayerId>,
    clock: u64,
    stats: PagerStats,
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
    /// Makes a memory of so many bytes in the guest, for layers of one source in the order of
    /// their use. Loads none.
    ///
    /// # Errors
    ///
    /// As [`Runtime::create_memory64`].
    pub fn new(
        runtime: &mut dyn Runtime,
        source: Source,
        layers: impl IntoIterator<Item = SourceRange>,
        bytes: u64,
        policy: Policy,
    ) -> Result<Self> {
        let memory = runtime.create_memory64(&MemorySpec::guest(bytes))?;
        let pages = bytes.div_ceil(PAGE);
        let layers: Vec<_> = layers.into_iter().collect();
        let pinned = match policy {
            Policy::Pinned => count_pinned(&layers, pages),
            Policy::Lru => 0,
        };
        let mut end = 0;
        let mut by_id = BTreeMap::new();
        for (index, source) in layers.into_iter().enumerate() {
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
            prefetched: BTreeSet::new(),
            clock: 0,
            stats: PagerStats::default(),
        })
    }

    /// Makes sure that these layers are in the window, all at once.
    ///
    /// # Errors
    ///
    /// [`Error::LayerNotFound`], [`Error::TooLarge`] if the window has no room for them
    /// together, and as [`Runtime::load_layer`]. Layers that were brought in stay.
    pub fn require(&mut self, runtime: &mut dyn Runtime, ids: &[LayerId]) -> Result<()> {
        self.clock += 1;
        self.check_room(ids)?;
        if !self.bring_in_all(runtime, ids)? {
            // There is room, but in pieces.
            while self.send_away(runtime, &[])? {}
            self.bring_in_all(runtime, ids)?;
        }
        Ok(())
    }

    /// Asks the system to read the bytes of layers that will be needed soon, and does not wait.
    pub fn prefetch(&mut self, ids: &[LayerId]) {
        for id in ids {
            let is_here = self.resident.iter().any(|resident| resident.id == *id);
            let Some(layer) = self.layers.get(id).filter(|_| !is_here) else { continue };
            if self.source.read_ahead(layer.source.start, layer.source.bytes) {
                self.prefetched.insert(*id);
            }
        }
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
            let Some(place) = self.make_room(runtime, *id, ids)? else { return Ok(false) };
            self.bring_in(runtime, *id, place)?;
            self.stats.misses += 1;
            self.stats.prefetch_hits += u64::from(self.prefetched.remove(id));
            let nanos = u64::try_from(start.elapsed().as_nanos()).unwrap_or(u64::MAX);
            self.stats.wait_nanos = self.stats.wait_nanos.saturating_add(nanos);
        }
        Ok(true)
    }

    fn bring_in(
        &mut self,
        runtime: &mut dyn Runtime,
        id: LayerId,
        place: Range<u64>,
    ) -> Result<()> {
        let Paged { source, pinned } = self.layer(id)?;
        let (bytes, pinned) = (source.bytes, pinned.is_some());
        runtime.register_layer(LayerSpec {
            id,
            name: source.name.clone(),
            memory: self.memory,
            offset: place.start * PAGE + source.start % PAGE,
            source: self.source.clone(),
            source_offset: source.start,
            bytes,
        })?;
        if let Err(error) = runtime.load_layer(id) {
            runtime.unregister_layer(id)?;
            return Err(error);
        }
        self.stats.bytes_loaded += bytes;
        self.resident.push(Resident { id, place, used: self.clock, pinned });
        self.resident.sort_by_key(|resident| resident.place.start);
        Ok(())
    }

    /// Finds a place for a layer, sending away layers that are not needed until there is one.
    fn make_room(
        &mut self,
        runtime: &mut dyn Runtime,
        id: LayerId,
        needed: &[LayerId],
    ) -> Result<Option<Range<u64>>> {
        let layer = self.layer(id)?;
        if let Some(place) = &layer.pinned {
            return Ok(Some(place.clone()));
        }
        let pages = pages_of(&layer.source);
        loop {
            if let Some(start) = self.hole(pages) {
                return Ok(Some(start..start + pages));
            }
            if !self.send_away(runtime, needed)? {
                return Ok(None);
            }
        }
    }

    /// Takes out the layer that was used longest ago, but none that stays or is needed; false
    /// if there is none.
    fn send_away(&mut self, runtime: &mut dyn Runtime, needed: &[LayerId]) -> Result<bool> {
        let idle = self.resident.iter().filter(|it| !it.pinned && !needed.contains(&it.id));
        let Some(Resident { id, .. }) = idle.min_by_key(|it| it.used) else { return Ok(false) };
        let id = *id;
        runtime.unregister_layer(id)?;
        self.resident.retain(|resident| resident.id != id);
        self.stats.evictions += 1;
        Ok(true)
    }

    fn layer(&self, id: LayerId) -> Result<&Paged> {
        let registered = self.layers.len();
        self.layers.get(&id).ok_or(Error::LayerNotFound { layer: id.0, registered })
    }

    /// Checks that these layers fit beside those that stay.
    fn check_room(&self, needed: &[LayerId]) -> Result<()> {
        let mut asked = 0;
        let mut names = Vec::new();
        for id in needed {
            let Paged { source, pinned } = self.layer(*id)?;
            if pinned.is_none() {
                asked += pages_of(source) * PAGE;
                names.push(source.name.as_str());
            }
        }
        let limit = (self.stream.end - self.stream.start) * PAGE;
        if asked <= limit {
            return Ok(());
        }
        Err(Error::TooLarge {
            what: format!("room for {} at once", names.join(" and ")),
            asked,
            limit,
            limited_by: format!("the window for layers, of {} bytes in all,", self.pages * PAGE),
        })
    }

    /// The first free range of so many pages.
    fn hole(&self, pages: u64) -> Option<u64> {
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

/// How many of the first layers can stay, so that two of the largest others fit beside them.
fn count_pinned(layers: &[SourceRange], pages: u64) -> usize {
    let sizes: Vec<_> = layers.iter().map(pages_of).collect();
    let fits = |count: &usize| {
        let (stay, stream) = sizes.split_at(*count);
        let stay = stay.iter().fold(0_u64, |sum, size| sum.saturating_add(*size));
        let room = stream.iter().max().map_or(0, |largest| largest.saturating_mul(2));
        stay.saturating_add(room) <= pages
    };
    (0..=layers.len()).rev().find(fits).unwrap_or(0)
}

/// Pages that a layer touches, wherever in its first page it begins.
fn pages_of(layer: &SourceRange) -> u64 {
    (layer.start % PAGE).saturating_add(layer.bytes).div_ceil(PAGE)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn layers(sizes: &[u64]) -> Vec<SourceRange> {
        let layer = |(id, pages): (u32, &u64)| SourceRange {
            id: LayerId(id),
            name: format!("layer {id}"),
            start: 5,
            bytes: pages * PAGE - 5,
        };
        (0..).zip(sizes).map(layer).collect()
    }

    #[test]
    fn as_many_stay_as_leave_room_for_two() {
        for (sizes, pages, expected) in [
            (&[2, 2, 2, 2][..], 8, 4),
            (&[2, 2, 2, 2], 7, 1),
            (&[2, 2, 2, 2], 4, 0),
            (&[2, 2, 2, 2], 1, 0),
            (&[5, 1, 1, 1], 7, 1),
            (&[1, 1, 1, 5], 7, 0),
            (&[], 0, 0),
        ] {
            assert_eq!(count_pinned(&layers(sizes), pages), expected, "{sizes:?} in {pages}");
        }
    }
}

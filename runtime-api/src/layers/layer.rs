//! What is registered as a layer, and the checks of places.

use std::collections::BTreeMap;
use std::ops::Range;
use std::time::Duration;

use polychord_abi::PAGE;
use polychord_plan::range::check_range;
use polychord_plan::{LayerHash, LayerId, SourceRange};
use serde::Serialize;

use crate::error::{Error, LayerProblem, Result};
use crate::layers::source::Source;
use crate::memory::mapping::Watch;
use crate::memory::stats::MemoryId;

/// A contiguous range of weights, and the place in a memory that it belongs to.
///
/// ```
/// use polychord_runtime_api::{LayerId, LayerSpec, MemorySpec, Result, Runtime, Source};
///
/// fn load(guest: &mut dyn Runtime) -> Result<()> {
///     let source = Source::open("model.gguf")?;
///     let memory = guest.create_memory64(&MemorySpec::guest(1 << 20))?;
///     // 100,000 bytes of the file, from byte 4,096 on.
///     let layer = LayerSpec::new(LayerId(0), memory, &source).part(4096, 100_000).offset(4096);
///     guest.register_layer(layer.name("blk.0"))?;
///     guest.load_layer(LayerId(0))?;
///     Ok(())
/// }
/// ```
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct LayerSpec {
    /// Number of the layer; at most 2^31 - 1, since guests pass it as `i32`.
    pub id: LayerId,
    /// Its name for people (`blk.0`).
    pub name: String,
    /// The memory that it belongs to.
    pub memory: MemoryId,
    /// First byte in that memory. A layer has the 64 KiB pages that it touches for itself: no
    /// other may touch them, and what it leaves of them is zeros once it is loaded. None may
    /// cross the edge of a [`Region`](crate::Region) or [`Segment`](crate::Segment). For its pages to be mapped, it must lie
    /// in its page as `source_offset` does in its own.
    pub offset: u64,
    /// Where its bytes come from.
    pub source: Source,
    /// First byte in the source.
    pub source_offset: u64,
    /// Length in bytes.
    pub bytes: u64,
}

impl LayerSpec {
    /// All bytes of a source, at the start of a memory. The layer is named by its number.
    #[must_use]
    pub fn new(id: LayerId, memory: MemoryId, source: &Source) -> Self {
        Self {
            id,
            name: format!("layer {}", id.0),
            memory,
            offset: 0,
            source: source.clone(),
            source_offset: 0,
            bytes: source.len(),
        }
    }

    /// Sets the name.
    #[must_use]
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.name = name.into();
        self
    }

    /// Sets the first byte in the memory.
    #[must_use]
    pub const fn offset(mut self, offset: u64) -> Self {
        self.offset = offset;
        self
    }

    /// Sets the first byte in the source and the length, in bytes.
    #[must_use]
    pub const fn part(mut self, source_offset: u64, bytes: u64) -> Self {
        self.source_offset = source_offset;
        self.bytes = bytes;
        self
    }

    /// A range of a file, at a place in a memory: the layer has the range's number and name.
    #[must_use]
    pub fn of(range: &SourceRange, source: &Source, memory: MemoryId, offset: u64) -> Self {
        Self {
            id: range.id,
            name: range.name.clone(),
            memory,
            offset,
            source: source.clone(),
            source_offset: range.start,
            bytes: range.bytes,
        }
    }

    /// The layer as one of the part of its source that it lies in, whose pages can be mapped.
    fn in_its_part(mut self) -> Self {
        let (part, offset) = self.source.part_of(self.source_offset, self.bytes);
        let part = part.clone();
        (self.source, self.source_offset) = (part, offset);
        self
    }
}

/// Where a layer is, after it was loaded.
///
/// ```
/// use polychord_runtime_api::{LayerId, Result, Runtime};
///
/// fn load(guest: &mut dyn Runtime, layer: LayerId) -> Result<()> {
///     let loaded = guest.load_layer(layer)?;
///     println!("{} bytes {} in {:?}", loaded.bytes, loaded.method, loaded.took);
///     if let Some(reason) = loaded.reason {
///         println!("not mapped: {reason}");
///     }
///     Ok(())
/// }
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct LoadedLayer {
    /// Guest address of its first byte: the offset in its linear memory, and in bits 32
    /// and up the index of that memory if there are several. None if it belongs to a memory in
    /// the host.
    pub address: Option<u64>,
    /// Length in bytes.
    pub bytes: u64,
    /// How it was brought in.
    pub method: LoadMethod,
    /// How long that took; zero if it was there already.
    pub took: Duration,
    /// Why it was copied; none if it was mapped.
    pub reason: Option<CopyReason>,
}

impl LoadedLayer {
    /// A layer of this many bytes, as a stand-in for a runtime tells of it: with no address.
    #[must_use]
    pub const fn new(bytes: u64, method: LoadMethod) -> Self {
        Self { address: None, bytes, method, took: Duration::ZERO, reason: None }
    }
}

/// How a layer was brought in.
///
/// ```
/// use polychord_runtime_api::LoadMethod;
///
/// assert_eq!("mapped".parse(), Ok(LoadMethod::Mapped));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum LoadMethod {
    /// By reading the file into the memory.
    Copied,
    /// By mapping the file's pages over the memory.
    Mapped,
}

/// Why a layer was copied and not mapped.
///
/// ```
/// use polychord_runtime_api::CopyReason;
///
/// assert_eq!(CopyReason::ReadAhead.name(), "read_ahead");
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum CopyReason {
    /// Its source is not a file that was opened for mapping
    /// ([`Source::open_mapped`](crate::Source::open_mapped)).
    Source,
    /// The engine does not claim [`Capabilities::mapping`](crate::Capabilities::mapping).
    Engine,
    /// Its memory is in the host.
    HostMemory,
    /// A running guest has asked for it.
    GuestRuns,
    /// Its bytes were read ahead.
    ReadAhead,
    /// It does not lie in its page of the memory as in its page of the file, its memory lends no
    /// pages, or as many layers are mapped as may be.
    Pages,
    /// The system refused to map it; the log has its error.
    System,
}

polychord_plan::named!(CopyReason, "reason to copy", { Source = "source",
    Engine = "engine",
    HostMemory = "host_memory",
    GuestRuns = "guest_runs",
    ReadAhead = "read_ahead",
    Pages = "pages",
    System = "system" });

polychord_plan::named!(LoadMethod, "method of loading", { Copied = "copied", Mapped = "mapped" });

/// The layers of one runtime.
#[derive(Debug, Default)]
pub(crate) struct Layers {
    by_id: BTreeMap<LayerId, Layer>,
    /// First 64 KiB page of each layer's place -> the page after its last, and the layer.
    by_place: BTreeMap<(MemoryId, u64), (u64, LayerId)>,
}

#[derive(Debug)]
pub(crate) struct Layer {
    pub(crate) spec: LayerSpec,
    pub(crate) loaded: Option<LoadMethod>,
    /// What its bytes have to be, if that is known.
    pub(crate) expected: Option<LayerHash>,
    /// If it is copied: why.
    pub(crate) reason: Option<CopyReason>,
    /// If it is mapped: whether it still has its pages, for each part of it that is in a memory of the
    /// engine.
    pub(crate) watches: Vec<Watch>,
}

impl Layer {
    /// Whether it was mapped, and its file has some of its bytes no longer.
    pub(crate) fn is_lost(&self) -> bool {
        self.watches.iter().any(Watch::is_lost)
    }

    /// The place in the memory, in bytes.
    pub(crate) const fn range(&self) -> Range<u64> {
        self.spec.offset..self.spec.offset + self.spec.bytes
    }
}

impl Layers {
    /// Adds a layer, given the size of its memory, and the end of the region and segment that
    /// it begins in.
    pub(crate) fn register(
        &mut self,
        spec: LayerSpec,
        memory_bytes: u64,
        extent: u64,
    ) -> Result<()> {
        let expected = spec.source.expected(spec.source_offset, spec.bytes);
        let spec = spec.in_its_part();
        if let Err((problem, reason)) = self.check(&spec, memory_bytes, extent) {
            let LayerSpec { id, name, .. } = spec;
            return Err(Error::InvalidLayer { layer: id.0, name, problem, reason });
        }
        let first = spec.offset / PAGE;
        let last = (spec.offset + spec.bytes).div_ceil(PAGE);
        self.by_place.insert((spec.memory, first), (last, spec.id));
        self.by_id.insert(
            spec.id,
            Layer { spec, loaded: None, expected, reason: None, watches: Vec::new() },
        );
        Ok(())
    }

    /// Forgets a layer, if there is one of this number.
    pub(crate) fn remove(&mut self, id: LayerId) {
        if let Some(Layer { spec, .. }) = self.by_id.remove(&id) {
            self.by_place.remove(&(spec.memory, spec.offset / PAGE));
        }
    }

    /// Bytes of a memory's layers that are mapped now.
    pub(crate) fn mapped_bytes(&self, memory: MemoryId) -> u64 {
        let mapped = self.by_id.values().filter(|layer| {
            layer.spec.memory == memory && layer.loaded == Some(LoadMethod::Mapped)
        });
        mapped.map(|layer| layer.spec.bytes).sum()
    }

    /// Ends the watch over everything that is mapped.
    pub(crate) fn forget_mapped(&mut self) {
        self.by_id.values_mut().for_each(|layer| layer.watches.clear());
    }

    /// Checks that what is mapped is still in its files.
    pub(crate) fn check_mapped(&self) -> Result<()> {
        let mut checked: Option<&Source> = None;
        for layer in self.by_id.values() {
            if layer.watches.is_empty() {
                continue;
            }
            let LayerSpec { ref source, source_offset, bytes, .. } = layer.spec;
            if layer.is_lost() {
                return Err(source.truncated(source_offset, bytes));
            }
            // Bytes beyond the end of the file, but in its last page, are lost in silence.
            if checked.is_some_and(|checked| checked.is_same(source)) {
                continue;
            }
            if source.has_shrunk()? {
                source.check_present(source_offset, bytes)?;
            } else {
                checked = Some(source);
            }
        }
        Ok(())
    }

    pub(crate) fn get_mut(&mut self, id: LayerId) -> Result<&mut Layer> {
        let registered = self.by_id.len();
        self.by_id.get_mut(&id).ok_or(Error::LayerNotFound { layer: id.0, registered })
    }

    fn check(
        &self,
        spec: &LayerSpec,
        memory_bytes: u64,
        extent: u64,
    ) -> Result<(), (LayerProblem, String)> {
        if let Some(other) = self.by_id.get(&spec.id) {
            return Err((
                LayerProblem::NumberTaken,
                format!("{} has the same number", other.spec.name),
            ));
        }
        if i32::try_from(spec.id.0).is_err() {
            let reason = "its number is beyond 2147483647, the last that a guest can name";
            return Err((LayerProblem::NumberTooLarge, reason.into()));
        }
        if spec.bytes == 0 {
            return Err((LayerProblem::Empty, "it has no bytes".into()));
        }
        check_range("its place", spec.offset, spec.bytes, memory_bytes)
            .map_err(|error| (LayerProblem::Place, error.to_string()))?;
        let end = spec.offset + spec.bytes;
        if end > extent {
            let reason = format!(
                "bytes {}..{end} leave the region or linear memory that they begin in, which ends \
                 at byte {extent}; place it in one",
                spec.offset
            );
            return Err((LayerProblem::Edge, reason));
        }
        check_range("its source", spec.source_offset, spec.bytes, spec.source.len())
            .map_err(|error| (LayerProblem::Source, error.to_string()))?;
        if spec.source.is_joined() {
            let reason = format!(
                "bytes {}..{} of its source are in no part of it as a whole; make it two layers",
                spec.source_offset,
                spec.source_offset + spec.bytes
            );
            return Err((LayerProblem::Source, reason));
        }
        self.check_anonymous(spec)?;
        self.check_overlap(spec)
    }

    /// Bytes that no file has are in one layer only: two would keep two versions of them.
    fn check_anonymous(&self, spec: &LayerSpec) -> Result<(), (LayerProblem, String)> {
        if spec.source.as_anonymous().is_none() {
            return Ok(());
        }
        let range = |spec: &LayerSpec| spec.source_offset..spec.source_offset + spec.bytes;
        let (own, mut others) = (range(spec), self.by_id.values().map(|layer| &layer.spec));
        let same = others.find(|other| {
            let theirs = range(other);
            other.source.is_same(&spec.source) && theirs.start < own.end && own.start < theirs.end
        });
        same.map_or(Ok(()), |other| {
            let reason = format!(
                "its bytes {}..{} of an anonymous source are also those of layer {} ({}): release \
                 and unregister that first",
                own.start, own.end, other.id.0, other.name
            );
            Err((LayerProblem::SharedBytes, reason))
        })
    }

    fn check_overlap(&self, spec: &LayerSpec) -> Result<(), (LayerProblem, String)> {
        let first = spec.offset / PAGE;
        let last = (spec.offset + spec.bytes).div_ceil(PAGE);
        let before = self.by_place.range(..(spec.memory, last)).next_back();
        match before {
            Some(((memory, start), (end, other))) if *memory == spec.memory && *end > first => {
                let name = &self.by_id[other].spec.name;
                let reason = format!(
                    "pages {first}..{last} of memory {} overlap pages {start}..{end} of layer {} ({name})",
                    memory.0, other.0
                );
                Err((LayerProblem::Overlap, reason))
            }
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn spec(id: u32, offset: u64, bytes: u64) -> LayerSpec {
        LayerSpec {
            id: LayerId(id),
            name: format!("layer {id}"),
            memory: MemoryId(0),
            offset,
            source: Source::from_bytes(vec![0; 3 * 65_536]),
            source_offset: 0,
            bytes,
        }
    }

    #[test]
    fn bytes_of_an_anonymous_source_are_in_one_layer() {
        let source = Source::anonymous(3 * PAGE, 3 * PAGE);
        let layer = |id: u32, source: &Source, start: u64| LayerSpec {
            source: source.clone(),
            source_offset: start,
            ..spec(id, u64::from(id) * 2 * PAGE, PAGE)
        };
        let mut layers = Layers::default();
        let mut register = |spec| layers.register(spec, 16 * PAGE, 16 * PAGE);
        register(layer(0, &source, 0)).unwrap();
        register(layer(1, &source, PAGE)).unwrap();
        let error = register(layer(2, &source.clone(), 2 * PAGE - 1)).unwrap_err().to_string();
        assert!(error.contains("also those of layer 1"), "{error}");
        let other = Source::anonymous(3 * PAGE, 3 * PAGE);
        register(layer(2, &other, PAGE)).unwrap();
    }

    #[test]
    fn bad_layers_are_refused() {
        let mut layers = Layers::default();
        layers.register(spec(0, PAGE, PAGE), 8 * PAGE, 8 * PAGE).unwrap();
        let bad = [
            ("same number", spec(0, 4 * PAGE, 1)),
            ("no bytes", spec(1, 4 * PAGE, 0)),
            ("beyond 2147483647", spec(u32::MAX, 4 * PAGE, 1)),
            ("overlap", spec(1, 2 * PAGE - 1, 1)),
            ("overlap", spec(1, 0, 3 * PAGE)),
            ("overlap", spec(1, 0, PAGE + 1)),
            ("its place", spec(1, 8 * PAGE, 1)),
            ("its place", spec(1, u64::MAX, 2)),
            ("its source", spec(1, 2 * PAGE, 4 * PAGE)),
            ("its source", LayerSpec { source_offset: u64::MAX, ..spec(1, 2 * PAGE, 1) }),
        ];
        for (reason, spec) in bad {
            let error = layers.register(spec, 8 * PAGE, 8 * PAGE).unwrap_err().to_string();
            assert!(error.contains(reason), "{error}");
        }
        layers.register(spec(1, 0, PAGE), 8 * PAGE, 8 * PAGE).unwrap();
        layers.register(spec(2, 2 * PAGE, PAGE), 8 * PAGE, 8 * PAGE).unwrap();
    }

    #[test]
    fn layers_stay_in_a_segment() {
        let mut layers = Layers::default();
        let error = layers.register(spec(0, 2 * PAGE - 1, 2), 8 * PAGE, 2 * PAGE).unwrap_err();
        assert!(error.to_string().contains("131071..131073"), "{error}");
        layers.register(spec(0, 2 * PAGE - 1, 1), 8 * PAGE, 2 * PAGE).unwrap();
    }

    proptest! {
        /// Registered layers never share a page, and a layer is refused only if it would.
        #[test]
        fn pages_are_never_shared(places in prop::collection::vec((0_u64..40, 1_u64..3 * PAGE, 0..PAGE), 1..40)) {
            let mut layers = Layers::default();
            let mut taken = std::collections::BTreeSet::new();
            for (id, (page, bytes, within)) in (0..).zip(places) {
                let offset = page * PAGE + within;
                let pages: Vec<_> = (page..(offset + bytes).div_ceil(PAGE)).collect();
                let free = pages.iter().all(|page| !taken.contains(page));
                prop_assert_eq!(layers.register(spec(id, offset, bytes), 64 * PAGE, 64 * PAGE).is_ok(), free);
                if free {
                    taken.extend(pages);
                }
            }
        }
    }
}

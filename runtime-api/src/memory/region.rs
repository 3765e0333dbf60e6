//! What a 64-bit memory is divided into.

use polychord_plan::range::{MAX_BYTES, PAGE};
use polychord_plan::region::WEIGHTS;
use serde::Serialize;

use crate::{Error, Result};

/// What a 64-bit memory should be.
///
/// For the layout with all regions in one memory, list them in one of these; for the one with
/// a memory for each region, make one memory [for each](Self::each).
///
/// ```
/// use polychord_runtime_api::{KV, MemoryKind, MemorySpec, RegionSpec, WEIGHTS};
///
/// let regions = [RegionSpec::fixed(WEIGHTS, 1 << 30), RegionSpec::growable(KV, 1 << 20, 1 << 28)];
/// let one = MemorySpec::new(MemoryKind::Guest, regions.clone());
/// assert_eq!(one.regions.len(), 2);
/// assert_eq!(MemorySpec::each(MemoryKind::Guest, regions).count(), 2);
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct MemorySpec {
    /// Where it lives.
    pub kind: MemoryKind,
    /// What it is divided into, in the order of offsets; at least one.
    pub regions: Vec<RegionSpec>,
}

/// Where a 64-bit memory lives.
///
/// ```
/// use polychord_runtime_api::{MemoryKind, MemorySpec};
///
/// assert_eq!(MemorySpec::host(1 << 20).kind, MemoryKind::Host);
/// assert_eq!("guest".parse(), Ok(MemoryKind::Guest));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum MemoryKind {
    /// In the guest's own linear memories, in ranges that the host grows them by. The guest
    /// uses its bytes in place, after `memory64_map_layer`.
    /// [`Backing`](crate::Backing) says how.
    Guest,
    /// In host memory, of any size. The guest copies by `memory64_read`, `memory64_write`
    /// and `memory64_load_layer`.
    Host,
}

polychord_plan::named!(MemoryKind, "kind of memory", { Guest = "guest", Host = "host" });

/// A named part of a memory, as it should be.
///
/// ```
/// use polychord_runtime_api::{KV, RegionSpec};
///
/// let cache = RegionSpec::growable(KV, 1 << 20, 1 << 28);
/// assert!(cache.bytes < cache.max_bytes);
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct RegionSpec {
    /// One of [`polychord_plan::region`] or a name of one's own, which no
    /// other region of the memory has.
    pub name: String,
    /// Size at the start in bytes; rounded up to whole WebAssembly pages.
    pub bytes: u64,
    /// Largest size in bytes, rounded up as well; at least `bytes`, and at most 16 TiB.
    pub max_bytes: u64,
}

/// A named part of a memory, as it is now.
///
/// ```
/// use polychord_runtime_api::{KV, MemoryId, Result, Runtime};
///
/// /// Bytes that the cache can still grow by.
/// fn room(guest: &dyn Runtime, memory: MemoryId) -> Result<u64> {
///     let region = guest.region(memory, KV)?;
///     Ok(region.max_bytes - region.bytes)
/// }
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Region {
    /// Its name.
    pub name: String,
    /// First byte in the memory, a multiple of 64 KiB.
    pub offset: u64,
    /// Size in bytes, of whole pages. Bytes behind it cannot be used.
    pub bytes: u64,
    /// What it can grow to. That much of the address space is its own from the start, so that
    /// nothing moves when it grows.
    pub max_bytes: u64,
}

impl MemorySpec {
    /// A memory in the guest's own linear memories: one region of a fixed size for weights.
    #[must_use]
    pub fn guest(bytes: u64) -> Self {
        Self::new(MemoryKind::Guest, [RegionSpec::fixed(WEIGHTS, bytes)])
    }

    /// A memory in the host: one region of a fixed size for weights.
    #[must_use]
    pub fn host(bytes: u64) -> Self {
        Self::new(MemoryKind::Host, [RegionSpec::fixed(WEIGHTS, bytes)])
    }

    /// A memory with these regions, one behind the other.
    #[must_use]
    pub fn new(kind: MemoryKind, regions: impl IntoIterator<Item = RegionSpec>) -> Self {
        Self { kind, regions: regions.into_iter().collect() }
    }

    /// A memory for each of these regions.
    pub fn each(
        kind: MemoryKind,
        regions: impl IntoIterator<Item = RegionSpec>,
    ) -> impl Iterator<Item = Self> {
        regions.into_iter().map(move |region| Self::new(kind, [region]))
    }

    /// Where the regions are in the memory.
    pub(crate) fn layout(&self) -> Result<Vec<Region>> {
        if self.regions.is_empty() {
            return Err(Error::InvalidMemory { reason: "it has no regions".into() });
        }
        let mut regions: Vec<Region> = Vec::new();
        let mut offset = 0_u64;
        for spec in &self.regions {
            if regions.iter().any(|region| region.name == spec.name) {
                let reason = format!("two of its regions are called {}", spec.name);
                return Err(Error::InvalidMemory { reason });
            }
            let (bytes, max_bytes) = spec.page_bytes()?;
            regions.push(Region { name: spec.name.clone(), offset, bytes, max_bytes });
            offset = offset.checked_add(max_bytes).ok_or_else(|| Error::TooLarge {
                what: format!("region {}, at byte {offset} of a memory,", spec.name),
                asked: max_bytes,
                limit: u64::MAX - offset,
                limited_by: "the 64-bit address space".into(),
            })?;
        }
        Ok(regions)
    }
}

impl RegionSpec {
    /// A region that keeps its size.
    #[must_use]
    pub fn fixed(name: impl Into<String>, bytes: u64) -> Self {
        Self::growable(name, bytes, bytes)
    }

    /// A region that [`Runtime::grow_region`](crate::Runtime::grow_region) can make larger.
    #[must_use]
    pub fn growable(name: impl Into<String>, bytes: u64, max_bytes: u64) -> Self {
        Self { name: name.into(), bytes, max_bytes }
    }

    /// The sizes in whole pages, in bytes.
    fn page_bytes(&self) -> Result<(u64, u64)> {
        let Self { name, bytes, max_bytes } = self;
        if *max_bytes == 0 || *max_bytes > MAX_BYTES {
            return Err(Error::TooLarge {
                what: format!("region {name} (which has at least one byte)"),
                asked: *max_bytes,
                limit: MAX_BYTES,
                limited_by: "Polychord".into(),
            });
        }
        if bytes > max_bytes {
            let reason = format!(
                "region {name} begins with {bytes} bytes and cannot have more than {max_bytes}"
            );
            return Err(Error::InvalidMemory { reason });
        }
        Ok((bytes.next_multiple_of(PAGE), max_bytes.next_multiple_of(PAGE)))
    }
}

impl Region {
    /// The end of what can be used now, as an offset in the memory.
    pub(crate) const fn end(&self) -> u64 {
        self.offset + self.bytes
    }

    /// Makes it larger by `bytes`, in whole pages; its size before.
    pub(crate) fn grow(&mut self, bytes: u64) -> Result<u64> {
        let before = self.bytes;
        let after = before.checked_add(bytes).and_then(|sum| sum.checked_next_multiple_of(PAGE));
        match after {
            Some(after) if after <= self.max_bytes => {
                self.bytes = after;
                Ok(before)
            }
            _ => Err(Error::TooLarge {
                what: format!("region {} of {before} bytes, grown", self.name),
                asked: before.saturating_add(bytes),
                limit: self.max_bytes,
                limited_by: "its largest size".into(),
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn sizes_are_checked_to_the_last_byte() {
        let sizes = |bytes, max| RegionSpec::growable("a", bytes, max).page_bytes().ok();
        assert_eq!(sizes(0, 0), None);
        assert_eq!(sizes(0, 1), Some((0, PAGE)));
        assert_eq!(sizes(1, PAGE + 1), Some((PAGE, 2 * PAGE)));
        assert_eq!(sizes(MAX_BYTES, MAX_BYTES), Some((MAX_BYTES, MAX_BYTES)));
        assert_eq!(sizes(1, MAX_BYTES + 1), None);
        assert_eq!(sizes(2, 1), None);
        assert_eq!(sizes(u64::MAX, u64::MAX), None);
    }

    #[test]
    fn memories_are_refused_with_the_reason() {
        let fixed = |name: &str, bytes| RegionSpec::fixed(name, bytes);
        for (regions, says) in [
            (vec![], "no regions"),
            (vec![fixed("a", 1), fixed("a", 1)], "called a"),
            (vec![fixed("a", 0)], "region a"),
            (vec![fixed("a", MAX_BYTES + 1)], "17592186044417 bytes"),
            (vec![RegionSpec::growable("a", 2, 1)], "begins with 2 bytes"),
        ] {
            let error = MemorySpec::new(MemoryKind::Host, regions).layout().unwrap_err();
            assert!(error.to_string().contains(says), "{error}");
        }
        let regions = (0..100).map(|index| fixed(&index.to_string(), MAX_BYTES));
        let regions = MemorySpec::new(MemoryKind::Host, regions).layout().unwrap();
        assert_eq!(regions[99].end(), 100 * MAX_BYTES);
    }

    proptest! {
        /// Regions are whole pages, in order, without gaps between what is theirs.
        #[test]
        fn regions_follow_each_other(sizes in prop::collection::vec((1..1_u64 << 44, 0..1_u64 << 40), 1..9)) {
            let regions = (0_u32..).zip(&sizes).map(|(index, (max, bytes))| {
                RegionSpec::growable(index.to_string(), *bytes.min(max), *max)
            });
            let layout = MemorySpec::new(MemoryKind::Host, regions).layout().unwrap();
            let mut next = 0;
            for (region, (max, bytes)) in layout.iter().zip(sizes) {
                prop_assert_eq!(region.offset, next);
                prop_assert_eq!(region.max_bytes, max.next_multiple_of(PAGE));
                prop_assert_eq!(region.bytes, bytes.min(max).next_multiple_of(PAGE));
                next += region.max_bytes;
            }
        }

        /// A region grows to its largest size and no further, in whole pages.
        #[test]
        fn regions_grow_to_their_end(steps in prop::collection::vec(prop_oneof![0..9 * PAGE, any::<u64>()], 1..9)) {
            let spec = [RegionSpec::growable("a", 1, 20 * PAGE)];
            let mut region = MemorySpec::new(MemoryKind::Host, spec).layout().unwrap().remove(0);
            for bytes in steps {
                let before = region.bytes;
                let pages = u128::from(bytes).div_ceil(PAGE.into());
                let fits = pages <= u128::from((region.max_bytes - before) / PAGE);
                prop_assert_eq!(region.grow(bytes).ok(), fits.then_some(before));
                let after = if fits { before + bytes.next_multiple_of(PAGE) } else { before };
                prop_assert_eq!(region.bytes, after);
            }
        }
    }
}

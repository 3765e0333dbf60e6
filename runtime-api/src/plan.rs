use polychord_abi::PAGE;
use serde::{Deserialize, Serialize};

use crate::layer::LayerId;
use crate::memory::{MAX_BYTES, check_range};
use crate::{Error, Result};

/// Which layer lives in which memory, at which offset. Plain data: made once, the same for
/// the same input, and run on any engine.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Plan {
    /// [`Plan::VERSION`] of the program that made it.
    pub version: u32,
    /// The memories, each in a guest of its own, in the order in which layers are used.
    pub memories: Vec<PlannedMemory>,
    /// The layers, in the order in which they are used.
    pub layers: Vec<PlannedLayer>,
}

/// One memory of a plan.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PlannedMemory {
    /// Size in bytes, in whole pages.
    pub bytes: u64,
    /// Whether the memory is smaller than its layers, which take turns in it. Their offsets
    /// are then those in a memory that would hold them all.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub paged: bool,
}

/// The place of one layer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlannedLayer {
    /// What it is and where its bytes are in the model file.
    #[serde(flatten)]
    pub source: SourceRange,
    /// Index of its memory.
    pub memory: u32,
    /// First byte in that memory; it lies in its 64 KiB page as the source does in its own,
    /// so that the pages of the file can be mapped on any machine.
    pub offset: u64,
}

/// A layer as the model file has it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct SourceRange {
    /// Number of the layer.
    pub id: LayerId,
    /// What people call it.
    pub name: String,
    /// First byte in the file.
    pub start: u64,
    /// Length in bytes.
    pub bytes: u64,
}

/// Layers that must share a memory, as input to a plan.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Group {
    /// The layers, in the order in which they are used.
    pub layers: Vec<SourceRange>,
    /// What else they need in the same memory, in bytes: a key-value cache, say.
    pub beside: u64,
}

impl Plan {
    /// The layout of plans that this version writes and reads.
    pub const VERSION: u32 = 1;

    /// All layers in one memory, in the order given.
    ///
    /// # Errors
    ///
    /// [`Error::InvalidPlan`] if a layer has no bytes, a number comes twice, or the sum is
    /// beyond what a memory can be.
    pub fn resident(layers: impl IntoIterator<Item = SourceRange>) -> Result<Self> {
        Self::of_memories([layers])
    }

    /// Contiguous runs of groups in so many memories, so that the largest memory is as small
    /// as it can be, counting what stands beside the layers. `everywhere` are layers that each
    /// memory has a copy of.
    ///
    /// # Errors
    ///
    /// [`Error::InvalidPlan`] if there are fewer groups than memories or no memories, and as
    /// [`resident`](Self::resident).
    pub fn by_layer(groups: &[Group], memories: usize, everywhere: &[SourceRange]) -> Result<Self> {
        if memories == 0 || memories > groups.len() {
            let reason = format!("{} parts cannot fill {memories} memories", groups.len());
            return Err(invalid(reason));
        }
        let sizes: Vec<_> = groups.iter().map(Group::bytes).collect();
        let mut rest = groups;
        let runs = split(&sizes, memories).into_iter().map(|count| {
            let (run, after) = rest.split_at(count);
            rest = after;
            let layers = run.iter().flat_map(|group| &group.layers);
            layers.chain(everywhere).cloned().collect::<Vec<_>>()
        });
        Self::of_memories(runs)
    }

    /// The same plan with memories of at most these sizes in bytes, one for each: a memory
    /// that is larger becomes a window, in which its layers take turns.
    ///
    /// # Errors
    ///
    /// [`Error::InvalidPlan`] if a layer is larger than its window.
    pub fn paged(mut self, windows: &[u64]) -> Result<Self> {
        for (memory, window) in self.memories.iter_mut().zip(windows) {
            let window = window - window % PAGE;
            if window < memory.bytes {
                *memory = PlannedMemory { bytes: window, paged: true };
            }
        }
        self.validate()?;
        Ok(self)
    }

    /// Checks that every layer has a place of its own, within its memory.
    ///
    /// # Errors
    ///
    /// [`Error::InvalidPlan`] with the first thing that is wrong.
    pub fn validate(&self) -> Result<()> {
        if self.version != Self::VERSION {
            let (has, reads) = (self.version, Self::VERSION);
            return Err(invalid(format!("it has version {has}, and this program reads {reads}")));
        }
        let mut ids = std::collections::BTreeSet::new();
        for layer in &self.layers {
            let SourceRange { id, name, .. } = &layer.source;
            self.check_layer(layer).map_err(|problem| invalid(format!("{name} {problem}")))?;
            if !ids.insert((layer.memory, *id)) {
                let memory = layer.memory;
                return Err(invalid(format!("memory {memory} has two layers numbered {}", id.0)));
            }
        }
        self.check_overlap()
    }

    /// Checks that the layers are those of a model, each of them somewhere and as the model
    /// has it.
    ///
    /// # Errors
    ///
    /// [`Error::InvalidPlan`] with the first layer that is not.
    pub fn check_model(&self, layers: &[SourceRange]) -> Result<()> {
        for PlannedLayer { source, .. } in &self.layers {
            if !layers.contains(source) {
                let SourceRange { id, name, start, bytes } = source;
                return Err(invalid(format!(
                    "it was made for another model: this one has no layer {} ({name}) of {bytes} \
                     bytes at {start}",
                    id.0
                )));
            }
        }
        let is_planned = |layer: &&SourceRange| self.layers.iter().any(|it| it.source == **layer);
        match layers.iter().find(|layer| !is_planned(layer)) {
            Some(layer) => Err(invalid(format!("it has no place for {}", layer.name))),
            None => Ok(()),
        }
    }

    /// The layers of one memory.
    pub fn layers_of(&self, memory: usize) -> impl Iterator<Item = &PlannedLayer> {
        self.layers.iter().filter(move |layer| layer.memory as usize == memory)
    }

    /// Lays out the layers of each memory one after the other.
    fn of_memories(
        memories: impl IntoIterator<Item = impl IntoIterator<Item = SourceRange>>,
    ) -> Result<Self> {
        let mut plan = Self { version: Self::VERSION, memories: Vec::new(), layers: Vec::new() };
        for (memory, layers) in (0..).zip(memories) {
            let mut end = 0_u64;
            for source in layers {
                let offset = end.next_multiple_of(PAGE) + source.start % PAGE;
                let too_large = || invalid("the layers are beyond 16 TiB in all");
                end = offset
                    .checked_add(source.bytes)
                    .filter(|end| *end <= MAX_BYTES)
                    .ok_or_else(too_large)?;
                plan.layers.push(PlannedLayer { source, memory, offset });
            }
            plan.memories.push(PlannedMemory { bytes: end.next_multiple_of(PAGE), paged: false });
        }
        plan.validate()?;
        Ok(plan)
    }

    fn check_layer(&self, layer: &PlannedLayer) -> Result<(), String> {
        let SourceRange { bytes, start, .. } = layer.source;
        let Some(memory) = self.memories.get(layer.memory as usize) else {
            return Err(format!("is in memory {}, which does not exist", layer.memory));
        };
        if bytes == 0 {
            return Err("has no bytes".into());
        }
        // In a window a layer may be anywhere.
        let offset = if memory.paged { layer.offset % PAGE } else { layer.offset };
        check_range("its place", offset, bytes, memory.bytes)
            .and_then(|()| check_range("its place", layer.offset, bytes, MAX_BYTES))
            .and_then(|()| check_range("its source", start, bytes, u64::MAX))
            .map_err(|error| format!("does not fit: {error}"))
    }

    fn check_overlap(&self) -> Result<()> {
        let place = |layer: &PlannedLayer| {
            let pages = layer.offset / PAGE..(layer.offset + layer.source.bytes).div_ceil(PAGE);
            (layer.memory, pages.start, pages.end, layer.source.name.clone())
        };
        let mut places: Vec<_> = self.layers.iter().map(place).collect();
        places.sort_unstable();
        for pair in places.windows(2) {
            let [(memory, _, end, name), (next_memory, start, _, next)] = pair else { continue };
            if memory == next_memory && start < end {
                let reason = format!("{name} and {next} share page {start} of memory {memory}");
                return Err(invalid(reason));
            }
        }
        Ok(())
    }
}

impl Group {
    /// Room for the group in bytes, each layer in pages of its own.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        let pages = |layer: &SourceRange| {
            let end = (layer.start % PAGE).saturating_add(layer.bytes);
            end.checked_next_multiple_of(PAGE).unwrap_or(u64::MAX)
        };
        self.layers.iter().map(pages).fold(self.beside, u64::saturating_add)
    }
}

/// How many of the items go into each part, in order, so that the largest sum is least.
/// Needs at least as many items as parts.
fn split(sizes: &[u64], parts: usize) -> Vec<usize> {
    let total = sizes.iter().fold(0_u64, |sum, size| sum.saturating_add(*size));
    let (mut low, mut high) = (sizes.iter().copied().max().unwrap_or(0), total);
    // The least capacity with which a first fit needs no more than the parts.
    while low < high {
        let capacity = low + (high - low) / 2;
        if first_fit(sizes, parts, capacity).len() <= parts {
            high = capacity;
        } else {
            low = capacity + 1;
        }
    }
    first_fit(sizes, parts, low)
}

/// Fills one part after the other up to a capacity, but leaves an item for each later part.
fn first_fit(sizes: &[u64], parts: usize, capacity: u64) -> Vec<usize> {
    let mut counts = Vec::new();
    let (mut count, mut sum) = (0, 0_u64);
    for (index, size) in sizes.iter().enumerate() {
        let needed_later = parts.saturating_sub(counts.len() + 1);
        let must_leave = sizes.len() - index <= needed_later;
        if count > 0 && (must_leave || sum.saturating_add(*size) > capacity) {
            counts.push(count);
            (count, sum) = (0, 0);
        }
        count += 1;
        sum = sum.saturating_add(*size);
    }
    counts.push(count);
    counts
}

fn invalid(reason: impl Into<String>) -> Error {
    Error::InvalidPlan { reason: reason.into() }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn sources(ranges: &[(u64, u64)]) -> Vec<SourceRange> {
        let source = |(id, (start, bytes)): (u32, &(u64, u64))| SourceRange {
            id: LayerId(id),
            name: format!("layer {id}"),
            start: *start,
            bytes: *bytes,
        };
        (0..).zip(ranges).map(source).collect()
    }

    #[test]
    fn absurd_layers_are_refused() {
        for ranges in [
            &[(0, 0)][..],
            &[(0, u64::MAX)],
            &[(u64::MAX, 1), (u64::MAX, u64::MAX)],
            &[(0, MAX_BYTES), (0, 1)],
        ] {
            assert!(Plan::resident(sources(ranges)).is_err(), "{ranges:?}");
        }
        assert!(Plan::resident(sources(&[(5, MAX_BYTES - 5)])).is_ok());
    }

    #[test]
    fn a_bad_plan_is_found_out() {
        let good = Plan::resident(sources(&[(100, 5000), (70_000, 80_000)])).unwrap();
        let spoil = |change: fn(&mut Plan)| {
            let mut plan = good.clone();
            change(&mut plan);
            plan.validate().unwrap_err().to_string()
        };
        assert!(spoil(|plan| plan.layers[1].memory = 1).contains("does not exist"));
        assert!(spoil(|plan| plan.layers[1].offset = 60_000).contains("share page 0"));
        assert!(
            spoil(|plan| plan.layers[1].source.id = LayerId(0)).contains("two layers numbered 0")
        );
        assert!(spoil(|plan| plan.layers[1].offset = u64::MAX).contains("leave the memory"));
        assert!(spoil(|plan| plan.version = 2).contains("version 2"));
        assert!(spoil(|plan| plan.layers[0].source.bytes = 0).contains("no bytes"));
        assert!(spoil(|plan| plan.memories[0].bytes = PAGE).contains("leave the memory"));
    }

    fn groups(sizes: &[u64]) -> Vec<Group> {
        let layers = sources(&sizes.iter().map(|pages| (0, pages * PAGE)).collect::<Vec<_>>());
        layers.into_iter().map(|layer| Group { layers: vec![layer], beside: 0 }).collect()
    }

    #[test]
    fn a_plan_is_for_one_model() {
        let layers = sources(&[(100, 5000), (70_000, 80_000)]);
        let plan = Plan::resident(layers.clone()).unwrap();
        plan.check_model(&layers).unwrap();
        let check = |layers: &[SourceRange]| plan.check_model(layers).unwrap_err().to_string();
        assert!(check(&sources(&[(100, 5000), (70_000, 80_001)])).contains("another model"));
        assert!(check(&sources(&[(100, 5000), (70_000, 80_000), (0, 1)])).contains("no place"));
    }

    #[test]
    fn a_window_holds_each_layer_but_not_all() {
        let groups = groups(&[3, 1, 2, 5]);
        let plan = Plan::by_layer(&groups, 2, &[]).unwrap();
        let sizes = |plan: &Plan| plan.memories.iter().map(|m| m.bytes / PAGE).collect::<Vec<_>>();
        assert_eq!(sizes(&plan), [6, 5]);
        let paged = plan.clone().paged(&[4 * PAGE + 7, 5 * PAGE]).unwrap();
        assert_eq!(sizes(&paged), [4, 5]);
        assert_eq!(paged.memories.iter().map(|m| m.paged).collect::<Vec<_>>(), [true, false]);
        let error = plan.paged(&[2 * PAGE, 0]).unwrap_err().to_string();
        assert!(error.contains("layer 0") && error.contains("196608"), "{error}");
    }

    #[test]
    fn plans_are_stable_as_json() {
        let plan = Plan::by_layer(&groups(&[1, 2]), 2, &[]).unwrap();
        let plan = plan.paged(&[PAGE, 2 * PAGE]).unwrap();
        let text = serde_json::to_string(&plan).unwrap();
        let expected = concat!(
            r#"{"version":1,"memories":[{"bytes":65536},{"bytes":131072}],"layers":["#,
            r#"{"id":0,"name":"layer 0","start":0,"bytes":65536,"memory":0,"offset":0},"#,
            r#"{"id":1,"name":"layer 1","start":0,"bytes":131072,"memory":1,"offset":0}]}"#
        );
        assert_eq!(text, expected);
        assert_eq!(serde_json::from_str::<Plan>(&text).unwrap(), plan);
        assert!(serde_json::from_str::<Plan>(&text.replace("memories", "memory")).is_err());
    }

    /// The least largest sum, by trying every way to split.
    fn best(sizes: &[u64], parts: usize) -> u64 {
        if parts == 1 {
            return sizes.iter().sum();
        }
        let cut = |at: usize| sizes[..at].iter().sum::<u64>().max(best(&sizes[at..], parts - 1));
        (1..=sizes.len() + 1 - parts).map(cut).min().unwrap()
    }

    proptest! {
        /// The largest memory is as small as any split in order makes it, and none is empty.
        #[test]
        fn the_largest_memory_is_least(sizes in prop::collection::vec(1_u64..100, 1..12), memories in 1_usize..6) {
            let plan = Plan::by_layer(&groups(&sizes), memories, &[]);
            if memories > sizes.len() {
                prop_assert!(plan.is_err());
                return Ok(());
            }
            let plan = plan.unwrap();
            prop_assert_eq!(plan.memories.len(), memories);
            let largest = plan.memories.iter().map(|memory| memory.bytes / PAGE).max();
            prop_assert_eq!(largest, Some(best(&sizes, memories)));
            prop_assert!(plan.memories.iter().all(|memory| memory.bytes > 0));
            prop_assert!(plan.layers.windows(2).all(|pair| pair[0].memory <= pair[1].memory));
        }

        /// Every layer gets its bytes, in order, alike in its page, and wastes under two pages.
        #[test]
        fn resident_plans_hold(ranges in prop::collection::vec((0..1_u64 << 40, 1..1_u64 << 33), 1..50)) {
            let plan = Plan::resident(sources(&ranges)).unwrap();
            prop_assert!(plan.validate().is_ok());
            let mut end = 0;
            for (layer, (start, bytes)) in plan.layers.iter().zip(&ranges) {
                prop_assert_eq!(layer.offset % PAGE, start % PAGE);
                prop_assert!(layer.offset >= end && layer.offset - end < 2 * PAGE);
                end = layer.offset + bytes;
            }
            prop_assert!(plan.memories[0].bytes - end < PAGE);
        }
    }
}

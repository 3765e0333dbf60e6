//! Plans: made, stored and checked.

mod read;
mod version;

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use crate::layer::{PlannedLayer, SourceRange};
use crate::range::{MAX_BYTES, PAGE, check_range};
use crate::{Error, Result, region};

/// Which layer lives in which memory of which guest, at which offset. Plain data: made once by
/// a [`Strategy`](crate::Strategy), the same for the same input, and run on any engine.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct Plan {
    /// [`Plan::VERSION`] of the program that made it. Another one is refused while a plan is
    /// read, before what this program does not know in it.
    #[serde(deserialize_with = "version::deserialize")]
    pub version: u32,
    /// The memories, in the order in which layers are used.
    pub memories: Vec<PlannedMemory>,
    /// The layers, in the order in which they are used.
    pub layers: Vec<PlannedLayer>,
}

/// One memory of a plan.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct PlannedMemory {
    /// Number of the guest that has it.
    pub guest: u32,
    /// What it is for: [`WEIGHTS`](Self::WEIGHTS), [`KV`](Self::KV), or a kind of tensor.
    pub region: String,
    /// Size in bytes, in whole pages.
    pub bytes: u64,
    /// Whether the memory is a window, smaller than its layers together. Their offsets
    /// are then those in a memory that would hold them all.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub paged: bool,
}

impl PlannedMemory {
    /// A memory of a guest that holds all its layers at once.
    #[must_use]
    pub fn new(guest: u32, region: impl Into<String>, bytes: u64) -> Self {
        Self { guest, region: region.into(), bytes, paged: false }
    }

    /// Makes the memory a window, which is smaller than its layers together.
    #[must_use]
    pub const fn window(mut self) -> Self {
        self.paged = true;
        self
    }

    /// The region of layers of all kinds.
    pub const WEIGHTS: &str = region::WEIGHTS;

    /// The region of keys and values: a memory without layers, which the guest fills itself.
    pub const KV: &str = region::KV;
}

impl Plan {
    /// The layout of plans that this version writes and reads.
    pub const VERSION: u32 = version::VERSION;

    /// Most layers of a plan, which are far more than any model has. A plan has at most as many
    /// guests as layers, and at most two memories for each layer.
    pub const MAX_LAYERS: usize = 1 << 20;

    /// A plan of these memories and layers, which [`validate`](Self::validate) has not seen yet.
    #[must_use]
    pub const fn new(memories: Vec<PlannedMemory>, layers: Vec<PlannedLayer>) -> Self {
        Self { version: Self::VERSION, memories, layers }
    }

    /// All layers in one memory of one guest, in the order given.
    ///
    /// # Errors
    ///
    /// [`Error::InvalidPlan`] if a layer has no bytes, a number comes twice, or the sum is
    /// beyond what a memory can be.
    pub fn resident(layers: impl IntoIterator<Item = SourceRange>) -> Result<Self> {
        let mut plan = Self::empty();
        plan.push(0, PlannedMemory::WEIGHTS, layers)?;
        plan.validate()?;
        Ok(plan)
    }

    /// Checks that every layer has a place of its own, within its memory, and that guests are
    /// numbered without gaps. Takes time in proportion to the size of the plan (and the logarithm
    /// of it), whatever is in it.
    ///
    /// # Errors
    ///
    /// [`Error::InvalidPlan`] with the first thing that is wrong.
    pub fn validate(&self) -> Result<()> {
        version::check(self.version).map_err(invalid)?;
        self.check_counts()?;
        self.check_memories()?;
        let mut ids = Vec::with_capacity(self.layers.len());
        for layer in &self.layers {
            let problem = |problem| invalid(format!("{} {problem}", layer.source.name));
            let memory = self.check_layer(layer).map_err(problem)?;
            ids.push((memory.guest, layer.source.id));
        }
        ids.sort_unstable();
        if let Some([(guest, id), _]) = ids.array_windows().find(|[first, next]| first == next) {
            return Err(invalid(format!("guest {guest} has two layers numbered {}", id.0)));
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
        let has: BTreeSet<_> = layers.iter().collect();
        let mut missing = has.clone();
        for PlannedLayer { source, .. } in &self.layers {
            if !has.contains(source) {
                let SourceRange { id, name, start, bytes } = source;
                return Err(invalid(format!(
                    "it was made for another model: this one has no layer {} ({name}) of {bytes} \
                     bytes at {start}",
                    id.0
                )));
            }
            missing.remove(source);
        }
        match missing.first() {
            Some(layer) => Err(invalid(format!("it has no place for {}", layer.name))),
            None => Ok(()),
        }
    }

    /// How many guests there are.
    #[must_use]
    pub fn guests(&self) -> u32 {
        self.memories.iter().map(|memory| memory.guest.saturating_add(1)).max().unwrap_or(0)
    }

    /// The memories of one guest, with their indices.
    pub fn memories_of(&self, guest: u32) -> impl Iterator<Item = (usize, &PlannedMemory)> {
        self.memories.iter().enumerate().filter(move |(_, memory)| memory.guest == guest)
    }

    /// The layers of each memory, by its index. Those that name no memory are left out.
    #[must_use]
    pub fn layers_by_memory(&self) -> Vec<Vec<&PlannedLayer>> {
        let mut layers = vec![Vec::new(); self.memories.len()];
        for layer in &self.layers {
            if let Some(of_memory) = layers.get_mut(layer.memory as usize) {
                of_memory.push(layer);
            }
        }
        layers
    }

    /// The layers of one memory. Looks at all layers: see
    /// [`layers_by_memory`](Self::layers_by_memory) for all memories.
    pub fn layers_of(&self, memory: usize) -> impl Iterator<Item = &PlannedLayer> {
        self.layers.iter().filter(move |layer| layer.memory as usize == memory)
    }

    /// The number of the guest that has a layer.
    #[must_use]
    pub fn guest_of(&self, layer: &PlannedLayer) -> Option<u32> {
        self.memories.get(layer.memory as usize).map(|memory| memory.guest)
    }

    /// A plan of this version for nothing.
    pub(crate) const fn empty() -> Self {
        Self { version: Self::VERSION, memories: Vec::new(), layers: Vec::new() }
    }

    /// Adds a memory with layers, one after the other.
    pub(crate) fn push(
        &mut self,
        guest: u32,
        region: &str,
        layers: impl IntoIterator<Item = SourceRange>,
    ) -> Result<()> {
        let memory = u32::try_from(self.memories.len()).unwrap_or(u32::MAX);
        let mut end = 0_u64;
        for source in layers {
            let offset = end.next_multiple_of(PAGE) + source.start % PAGE;
            let too_large = || invalid("the layers are beyond 16 TiB in all");
            end = offset
                .checked_add(source.bytes)
                .filter(|end| *end <= MAX_BYTES)
                .ok_or_else(too_large)?;
            self.layers.push(source.at(memory, offset));
        }
        self.push_empty(guest, region, end)
    }

    /// Adds a memory without layers, of at least this many bytes.
    pub(crate) fn push_empty(&mut self, guest: u32, region: &str, bytes: u64) -> Result<()> {
        if bytes > MAX_BYTES {
            return Err(invalid(format!("its {region} of {bytes} bytes are beyond 16 TiB")));
        }
        let bytes = bytes.next_multiple_of(PAGE);
        let region = region.to_owned();
        self.memories.push(PlannedMemory { guest, region, bytes, paged: false });
        Ok(())
    }

    /// Refuses what no model can need, before anything else looks at each part of it.
    fn check_counts(&self) -> Result<()> {
        let (layers, memories, guests) =
            (self.layers.len(), self.memories.len(), u64::from(self.guests()));
        let most = Self::MAX_LAYERS;
        if layers > most {
            return Err(invalid(format!("it has {layers} layers, and {most} are the most")));
        }
        // One for a plan that has no layers yet.
        let (most, of) = (2 * layers + 1, "two for each layer and one more");
        if memories > most {
            let counts = format!("it has {memories} memories for {layers} layers");
            return Err(invalid(format!("{counts}, and {most} are the most: {of}")));
        }
        if guests > layers.max(1) as u64 && guests <= memories as u64 {
            let counts = format!("it has {guests} guests for {layers} layers");
            return Err(invalid(format!("{counts}, and each guest needs a layer")));
        }
        Ok(())
    }

    /// Checks what memories say of themselves.
    fn check_memories(&self) -> Result<()> {
        // By the number of the guest; more numbers than memories would leave a gap.
        let mut guests = vec![OfGuest::default(); self.memories.len()];
        for memory in &self.memories {
            if let Some(guest) = guests.get_mut(memory.guest as usize) {
                guest.add(memory);
            }
        }
        let count = self.guests() as usize;
        let is_gap = |guest: &OfGuest| guest.caches + guest.others == 0;
        let gap = guests.iter().take(count).position(is_gap);
        if let Some(gap) = gap.or((count > guests.len()).then_some(guests.len())) {
            return Err(invalid(format!("there is no guest {gap}, but later ones")));
        }
        for (number, guest) in guests.iter().enumerate() {
            let OfGuest { caches, others, paged } = guest;
            if *caches > 1 {
                return Err(invalid(format!("guest {number} has {caches} memories for its cache")));
            }
            if *paged && *others > 1 {
                let reason = "has a window and another memory for layers, but it can have one";
                return Err(invalid(format!("guest {number} {reason}")));
            }
        }
        Ok(())
    }

    fn check_layer(&self, layer: &PlannedLayer) -> Result<&PlannedMemory, String> {
        let SourceRange { bytes, start, .. } = layer.source;
        let Some(memory) = self.memories.get(layer.memory as usize) else {
            return Err(format!("is in memory {}, which does not exist", layer.memory));
        };
        if memory.region == PlannedMemory::KV {
            return Err(format!("is in memory {}, which is for the cache", layer.memory));
        }
        if bytes == 0 {
            return Err("has no bytes".into());
        }
        // In a window a layer may be anywhere.
        let offset = if memory.paged { layer.offset % PAGE } else { layer.offset };
        check_range("its place", offset, bytes, memory.bytes)
            .and_then(|()| check_range("its place", layer.offset, bytes, MAX_BYTES))
            .and_then(|()| check_range("its source", start, bytes, u64::MAX))
            .map_err(|error| format!("does not fit: {error}"))?;
        Ok(memory)
    }

    fn check_overlap(&self) -> Result<()> {
        let place = |layer: &'_ PlannedLayer| {
            let pages = layer.offset / PAGE..(layer.offset + layer.source.bytes).div_ceil(PAGE);
            (layer.memory, pages.start, pages.end)
        };
        let mut places: Vec<_> =
            self.layers.iter().map(|layer| (place(layer), &layer.source.name)).collect();
        places.sort_unstable();
        for [((memory, _, end), name), ((next_memory, start, _), next)] in places.array_windows() {
            if memory == next_memory && start < end {
                let reason = format!("{name} and {next} share page {start} of memory {memory}");
                return Err(invalid(reason));
            }
        }
        Ok(())
    }
}

/// The memories of one guest.
#[derive(Clone, Default)]
struct OfGuest {
    caches: usize,
    others: usize,
    paged: bool,
}

impl OfGuest {
    fn add(&mut self, memory: &PlannedMemory) {
        match memory.region == PlannedMemory::KV {
            true => self.caches += 1,
            false => self.others += 1,
        }
        self.paged |= memory.paged;
    }
}

pub(crate) fn invalid(reason: impl Into<String>) -> Error {
    Error::InvalidPlan { reason: reason.into() }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::LayerId;

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

    fn another(plan: &mut Plan, region: &str) {
        plan.push_empty(0, region, PAGE).unwrap();
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
        assert!(spoil(|plan| plan.version = 1).contains("version 1"));
        let newer = spoil(|plan| plan.version = 7);
        assert!(newer.contains("version 7") && newer.contains("up to 2: update"), "{newer}");
        assert!(spoil(|plan| plan.layers[0].source.bytes = 0).contains("no bytes"));
        assert!(spoil(|plan| plan.memories[0].bytes = PAGE).contains("leave the memory"));
        assert!(spoil(|plan| plan.memories[0].guest = 1).contains("no guest 0"));
        assert!(spoil(|plan| plan.memories[0].region = "kv".into()).contains("for the cache"));
        let two_caches =
            spoil(|plan| ["kv"; 2].into_iter().for_each(|region| another(plan, region)));
        assert!(two_caches.contains("2 memories"), "{two_caches}");
        let two_with_a_window = spoil(|plan| {
            another(plan, "attention");
            plan.memories[0].paged = true;
        });
        assert!(two_with_a_window.contains("window"), "{two_with_a_window}");
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
    fn plans_are_stable_as_json() {
        let mut plan = Plan::resident(sources(&[(0, PAGE), (5, 7)])).unwrap();
        plan.memories[0].paged = true;
        plan.push_empty(0, PlannedMemory::KV, 1).unwrap();
        let text = serde_json::to_string(&plan).unwrap();
        let expected = concat!(
            r#"{"version":2,"memories":[{"guest":0,"region":"weights","bytes":131072,"paged":true},"#,
            r#"{"guest":0,"region":"kv","bytes":65536}],"layers":["#,
            r#"{"id":0,"name":"layer 0","start":0,"bytes":65536,"memory":0,"offset":0},"#,
            r#"{"id":1,"name":"layer 1","start":5,"bytes":7,"memory":0,"offset":65541}]}"#
        );
        assert_eq!(text, expected);
        assert_eq!(serde_json::from_str::<Plan>(&text).unwrap(), plan);
        assert!(serde_json::from_str::<Plan>(&text.replace("memories", "memory")).is_err());
        for unknown in [r#""offset":0,"color":1}"#, r#""offset":0,"offset":0}"#] {
            let text = text.replace(r#""offset":0}"#, unknown);
            assert!(serde_json::from_str::<Plan>(&text).is_err(), "{text}");
        }
    }

    /// Plans of many entries, one of them sound, and others that are as bad as can be.
    fn large_plans(count: u32) -> Vec<(&'static str, Plan)> {
        let layers = |places: &dyn Fn(u32) -> (u32, u32, u64)| -> Vec<_> {
            let layer = |number| {
                let (id, memory, page) = places(number);
                let name = format!("layer {number}");
                let source = SourceRange { id: LayerId(id), name, start: 0, bytes: 1 };
                source.at(memory, page * PAGE)
            };
            (0..count).map(layer).collect()
        };
        let memories = |guests: &dyn Fn(u32) -> u32, pages: u32| -> Vec<_> {
            let bytes = u64::from(pages) * PAGE;
            let memory = |number| PlannedMemory {
                guest: guests(number),
                region: "a".into(),
                bytes,
                paged: false,
            };
            (0..count).map(memory).collect()
        };
        let one = || memories(&|_| 0, count)[..1].to_vec();
        let last = count - 1;
        let plan = |memories, layers| Plan { version: Plan::VERSION, memories, layers };
        vec![
            ("sound", plan(one(), layers(&|n| (n, 0, n.into())))),
            ("reversed", plan(one(), layers(&|n| (last - n, 0, (last - n).into())))),
            ("each in a guest", plan(memories(&|n| n, 1), layers(&|n| (0, n, 0)))),
            ("each in a memory", plan(memories(&|_| 0, 1), layers(&|n| (n, n, 0)))),
            ("one number", plan(one(), layers(&|n| (5, 0, n.into())))),
            ("one place", plan(one(), layers(&|n| (n, 0, 0)))),
            ("no layers", plan(memories(&|n| n, 0), Vec::new())),
            ("one layer", plan(memories(&|n| n, 1), layers(&|_| (0, 0, 0))[..1].to_vec())),
            ("guests with gaps", plan(memories(&|n| n * 2, 1), layers(&|n| (n, n, 0)))),
            ("the last guest", plan(memories(&|_| u32::MAX, 1), layers(&|n| (n, n, 0)))),
        ]
    }

    #[test]
    fn a_plan_of_a_million_entries_is_checked_at_once() {
        for (name, plan) in large_plans(1_000_000) {
            let start = std::time::Instant::now();
            let result = plan.validate();
            assert!(start.elapsed().as_secs() < 20, "{name}: {:?}", start.elapsed());
            let sound = ["sound", "reversed", "each in a guest", "each in a memory"];
            assert_eq!(result.is_ok(), sound.contains(&name), "{name}: {result:?}");
        }
    }

    #[test]
    fn more_layers_than_any_model_has_are_refused() {
        let (_, mut plan) = large_plans(u32::try_from(Plan::MAX_LAYERS).unwrap()).swap_remove(0);
        plan.validate().unwrap();
        plan.layers.push(plan.layers[0].clone());
        let error = plan.validate().unwrap_err().to_string();
        assert!(error.contains("1048577 layers, and 1048576 are the most"), "{error}");
    }

    proptest! {
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

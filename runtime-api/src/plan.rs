use polychord_abi::PAGE;
use serde::{Deserialize, Serialize};

use crate::layer::LayerId;
use crate::memory::{MAX_BYTES, check_range};
use crate::{Error, Result};

/// Which layer lives in which memory, at which offset. Plain data: made once, the same for
/// the same input, and run on any engine.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Plan {
    /// The memories, in the order in which `create_memory64` makes them.
    pub memories: Vec<PlannedMemory>,
    /// The layers, in the order in which they are used.
    pub layers: Vec<PlannedLayer>,
}

/// One memory of a plan.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlannedMemory {
    /// Size in bytes, in whole pages.
    pub bytes: u64,
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
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
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

impl Plan {
    /// All layers in one memory, in the order given.
    ///
    /// # Errors
    ///
    /// [`Error::InvalidPlan`] if a layer has no bytes, a number comes twice, or the sum is
    /// beyond what a memory can be.
    pub fn resident(layers: impl IntoIterator<Item = SourceRange>) -> Result<Self> {
        let mut end = 0_u64;
        let mut placed = Vec::new();
        for source in layers {
            let too_large = || invalid("the layers are beyond 16 TiB in all");
            let offset = end.next_multiple_of(PAGE) + source.start % PAGE;
            end = offset
                .checked_add(source.bytes)
                .filter(|end| *end <= MAX_BYTES)
                .ok_or_else(too_large)?;
            placed.push(PlannedLayer { source, memory: 0, offset });
        }
        let memories = vec![PlannedMemory { bytes: end.next_multiple_of(PAGE) }];
        let plan = Self { memories, layers: placed };
        plan.validate()?;
        Ok(plan)
    }

    /// Checks that every layer has a place of its own, within its memory.
    ///
    /// # Errors
    ///
    /// [`Error::InvalidPlan`] with the first thing that is wrong.
    pub fn validate(&self) -> Result<()> {
        let mut ids = std::collections::BTreeSet::new();
        let mut places = Vec::new();
        for layer in &self.layers {
            let SourceRange { id, name, bytes, start } = &layer.source;
            let Some(memory) = self.memories.get(layer.memory as usize) else {
                return Err(invalid(format!(
                    "{name} is in memory {}, which does not exist",
                    layer.memory
                )));
            };
            if !ids.insert(*id) {
                return Err(invalid(format!("two layers have the number {}", id.0)));
            }
            if *bytes == 0 {
                return Err(invalid(format!("{name} has no bytes")));
            }
            check_range("a layer", layer.offset, *bytes, memory.bytes)
                .and_then(|()| check_range("a layer", *start, *bytes, u64::MAX))
                .map_err(|error| invalid(format!("{name}: {error}")))?;
            let pages = layer.offset / PAGE..(layer.offset + bytes).div_ceil(PAGE);
            places.push((layer.memory, pages.start, pages.end, name));
        }
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
        assert!(spoil(|plan| plan.layers[1].source.id = LayerId(0)).contains("have the number 0"));
        assert!(spoil(|plan| plan.layers[1].offset = u64::MAX).contains("leave the memory"));
        assert!(spoil(|plan| plan.layers[0].source.bytes = 0).contains("no bytes"));
        assert!(spoil(|plan| plan.memories[0].bytes = PAGE).contains("leave the memory"));
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

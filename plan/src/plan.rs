//! Plans: made, stored and checked.
//!
//! - `check`: whether a plan holds together, and is for a model.
//! - `read`: plans as JSON; `version`: which of them this program knows.

mod check;
mod read;
#[cfg(test)]
mod tests;
mod version;

use serde::{Deserialize, Serialize};

use crate::layer::{PlannedLayer, SourceRange};
use crate::range::{MAX_BYTES, PAGE};
use crate::{Error, Result, region};

/// Which layer lives in which memory of which guest, at which offset. Plain data: made once by
/// a [`Strategy`](crate::Strategy), the same for the same input, and run on any engine.
///
/// ```
/// use polychord_plan::{LayerId, Plan, SourceRange};
///
/// let plan = Plan::resident([SourceRange::new(LayerId(0), "blk.0", 4096, 1000)])?;
/// assert_eq!(plan.guests(), 1);
/// assert_eq!(plan.memories[0].bytes, 65_536);
/// plan.validate()?;
/// # Ok::<(), polychord_plan::Error>(())
/// ```
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
    /// The host of each guest, by the guest's number; empty if all are on one host. Hosts are numbered
    /// without gaps.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub hosts: Vec<u32>,
}

/// One memory of a plan.
///
/// ```
/// use polychord_plan::PlannedMemory;
///
/// let window = PlannedMemory::new(0, PlannedMemory::WEIGHTS, 1 << 30).window();
/// assert!(window.paged);
/// ```
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
        Self { version: Self::VERSION, memories, layers, hosts: Vec::new() }
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

    /// How many guests there are.
    #[must_use]
    pub fn guests(&self) -> u32 {
        self.memories.iter().map(|memory| memory.guest.saturating_add(1)).max().unwrap_or(0)
    }

    /// How many hosts there are.
    ///
    /// ```
    /// use polychord_plan::{LayerId, Plan, SourceRange};
    ///
    /// let plan = Plan::resident([SourceRange::new(LayerId(0), "blk.0", 4096, 1000)])?;
    /// assert_eq!((plan.host_count(), plan.host_of(0)), (1, 0));
    /// # Ok::<(), polychord_plan::Error>(())
    /// ```
    #[must_use]
    pub fn host_count(&self) -> u32 {
        self.hosts.iter().map(|host| host.saturating_add(1)).max().unwrap_or(1)
    }

    /// The host of a guest.
    #[must_use]
    pub fn host_of(&self, guest: u32) -> u32 {
        self.hosts.get(guest as usize).copied().unwrap_or(0)
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
        Self::new(Vec::new(), Vec::new())
    }

    /// Adds what another plan has, behind what there is, for a host.
    pub(crate) fn append(&mut self, other: Self, host: u32) {
        let (guests, count) = (self.guests(), other.guests());
        let memories = u32::try_from(self.memories.len()).unwrap_or(u32::MAX);
        self.hosts.extend(std::iter::repeat_n(host, count as usize));
        self.memories.extend(other.memories.into_iter().map(|memory| {
            let guest = memory.guest.saturating_add(guests);
            PlannedMemory { guest, ..memory }
        }));
        self.layers.extend(other.layers.into_iter().map(|layer| {
            let memory = layer.memory.saturating_add(memories);
            PlannedLayer { memory, ..layer }
        }));
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
}

pub(crate) fn invalid(reason: impl Into<String>) -> Error {
    Error::InvalidPlan { reason: reason.into() }
}

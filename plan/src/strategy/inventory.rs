//! What is to be placed: groups of layers, with what each of them needs.

use crate::Result;
use crate::layer::SourceRange;
use crate::plan::{Plan, invalid};
use crate::range::PAGE;

/// What is to be placed.
///
/// ```
/// use polychord_plan::{Group, Inventory, LayerId, SourceRange};
///
/// let block = |id| {
///     let layer = SourceRange::new(LayerId(id), format!("blk.{id}"), 0, 100_000);
///     Group::new("weights", [layer]).cache(65_536)
/// };
/// let inventory = Inventory::new([block(0), block(1)]).overhead(1 << 20);
/// assert_eq!(inventory.groups.len(), 2);
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Inventory {
    /// Layers that cannot be apart, in the order in which they are used.
    pub groups: Vec<Group>,
    /// Layers that each guest has a copy of.
    pub replicated: Vec<SourceRange>,
    /// Bytes that each guest needs beside its layers and caches: activations, for example.
    pub overhead: u64,
}

/// Layers that must share a guest.
///
/// ```
/// use polychord_plan::{Group, LayerId, SourceRange};
///
/// let layer = SourceRange::new(LayerId(0), "blk.0", 0, 100_000);
/// let group = Group::new("weights", [layer]).cache(4096);
/// // Two pages for the layer, and the cache.
/// assert_eq!(group.bytes(), 2 * 65_536 + 4096);
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Group {
    /// What the layers are for; names their memory where each group has its own.
    pub region: String,
    /// The layers, in the order in which they are used.
    pub layers: Vec<SourceRange>,
    /// Keys and values for these layers, in bytes.
    pub cache: u64,
}

/// Most groups of an inventory; the largest known models have some 130 blocks.
pub(super) const MAX_GROUPS: usize = 1 << 16;

impl Inventory {
    /// Groups to be placed, in the order in which they are used, and nothing else.
    #[must_use]
    pub fn new(groups: impl IntoIterator<Item = Group>) -> Self {
        Self { groups: groups.into_iter().collect(), replicated: Vec::new(), overhead: 0 }
    }

    /// Sets the layers that each guest has a copy of.
    #[must_use]
    pub fn replicated(mut self, layers: impl IntoIterator<Item = SourceRange>) -> Self {
        self.replicated = layers.into_iter().collect();
        self
    }

    /// Sets the bytes that each guest needs beside its layers and caches.
    #[must_use]
    pub const fn overhead(mut self, bytes: u64) -> Self {
        self.overhead = bytes;
        self
    }

    /// Refuses what no model can need, before anything is made of it: each guest has a copy of
    /// the layers that are everywhere.
    pub(super) fn check_counts(&self, guests: usize) -> Result<()> {
        let (groups, most) = (self.groups.len(), MAX_GROUPS);
        if groups > most {
            return Err(invalid(format!("there are {groups} parts, and {most} are the most")));
        }
        let copies = self.replicated.len().saturating_mul(guests);
        let layers = self.groups.iter().map(|group| group.layers.len());
        let (layers, most) = (layers.fold(copies, usize::saturating_add), Plan::MAX_LAYERS);
        if layers > most {
            return Err(invalid(format!("there are {layers} layers, and {most} are the most")));
        }
        Ok(())
    }

    /// What each guest needs beside its groups, in bytes.
    pub(super) fn each_guest(&self) -> u64 {
        self.replicated.iter().map(paged_bytes).fold(self.overhead, u64::saturating_add)
    }
}

impl Group {
    /// Layers for a region, without a cache.
    #[must_use]
    pub fn new(region: impl Into<String>, layers: impl IntoIterator<Item = SourceRange>) -> Self {
        Self { region: region.into(), layers: layers.into_iter().collect(), cache: 0 }
    }

    /// Sets the bytes of keys and values for the layers.
    #[must_use]
    pub const fn cache(mut self, bytes: u64) -> Self {
        self.cache = bytes;
        self
    }

    /// Room for the group in bytes, each layer in pages of its own.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.layers.iter().map(paged_bytes).fold(self.cache, u64::saturating_add)
    }

    pub(super) fn name(&self) -> &str {
        self.layers.first().map_or(&self.region, |layer| &layer.name)
    }
}

/// Bytes of the pages that a layer touches.
fn paged_bytes(layer: &SourceRange) -> u64 {
    let end = (layer.start % PAGE).saturating_add(layer.bytes);
    end.checked_next_multiple_of(PAGE).unwrap_or(u64::MAX)
}

//! How weights and cache are cut into memories, as far as each placement has a choice.

use polychord_runtime_api::plan::named;

/// How weights and cache are cut into memories of one guest; changes where bytes lie, never a result.
///
/// ```
/// use polychord_session::{Placement, SessionOptions, Split};
///
/// let split = Split::CacheApart;
/// let options = SessionOptions::new().placement(Placement::Resident32 { split });
/// # let _ = options;
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Split {
    /// Layers of all kinds in one memory; the guest allocates its cache.
    #[default]
    ByLayer,
    /// A memory for each kind of tensor (embeddings, attention, feed-forward, output) and one for
    /// the key-value cache.
    ByKind,
    /// Layers of all kinds in one memory, and the key-value cache in a second one.
    CacheApart,
}

named!(Split, "split", {
    ByLayer = "layer": "One memory for all layers of a guest",
    ByKind = "kind": "A memory for each kind of tensor and one for the cache, in one guest",
    CacheApart = "cache-apart": "One memory for all layers of a guest, and one for its cache",
});

/// The ways to cut that several guests have, each with a run of the layers.
///
/// ```
/// use polychord_session::{Placement, ShardSplit};
///
/// let shards = Placement::Sharded32 { memories: Some(2), split: ShardSplit::CacheApart };
/// # let _ = shards;
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum ShardSplit {
    /// One memory for the layers of each guest, which allocates its cache.
    #[default]
    ByLayer,
    /// One memory for the layers of each guest, and one for its cache.
    CacheApart,
}

named!(ShardSplit, "split of several guests", {
    ByLayer = "layer": "One memory for all layers of a guest",
    CacheApart = "cache-apart": "One memory for all layers of a guest, and one for its cache",
});

/// The ways to cut weights that several memories of one guest have, where the cache is always apart.
///
/// ```
/// use polychord_session::{MultiSplit, Placement};
///
/// let memories = Placement::Multi32 { split: MultiSplit::ByKind };
/// # let _ = memories;
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum MultiSplit {
    /// As few memories as hold the layers in their order.
    #[default]
    ByLayer,
    /// A memory for each kind of tensor.
    ByKind,
}

named!(MultiSplit, "split of several memories", {
    ByLayer = "layer": "As few memories as hold the layers in their order",
    ByKind = "kind": "A memory for each kind of tensor",
});

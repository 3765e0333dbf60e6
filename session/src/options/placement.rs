//! How layers are spread over guests and memories, as a caller asks for it.

use std::fmt;
use std::str::FromStr;

use polychord_runtime_api::plan::{UnknownName, named};
use polychord_runtime_api::{Plan, Policy};

/// How a model's layers are spread over guests and their memories.
///
/// ```
/// use polychord_session::{Placement, SessionOptions};
///
/// let paged = Placement::Paged { resident_bytes: Some(6 << 30), policy: Default::default() };
/// let options = SessionOptions::new().placement(paged);
/// # let _ = options;
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Placement {
    /// One memory if all fits there; else several, or a window if there is less free memory
    /// than weights.
    #[default]
    Auto,
    /// All layers in one 32-bit memory.
    Resident32,
    /// Contiguous runs of layers in several guests, each with its own 32-bit memory and its
    /// own part of the key-value cache.
    Sharded32 {
        /// How many guests; by default as few as have room.
        memories: Option<usize>,
    },
    /// All layers in several 32-bit memories of one guest, and the cache in one more: for
    /// engines with several memories, and never chosen automatically.
    Multi32,
    /// All layers in one 64-bit memory, of any size: for engines that have such memories, and
    /// never chosen automatically, because 32-bit ones are faster.
    Native64,
    /// Layers are brought in as they are needed, into windows that are smaller than all of them.
    Paged {
        /// Bytes of all windows together; by default three quarters of the free memory, which
        /// ranks that copy their weights share.
        resident_bytes: Option<u64>,
        /// Which layers stay.
        policy: Policy,
    },
    /// By a plan that was made before.
    Planned(Plan),
}

/// The kinds of [`Placement`] that have a name, which [`Placement::from`] makes with the defaults
/// of their options.
///
/// ```
/// use polychord_session::{Placement, PlacementKind};
///
/// let kind: PlacementKind = "sharded32".parse().unwrap();
/// assert_eq!(Placement::from(kind), Placement::Sharded32 { memories: None });
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum PlacementKind {
    /// [`Placement::Auto`].
    #[default]
    Auto,
    /// [`Placement::Resident32`].
    Resident32,
    /// [`Placement::Sharded32`].
    Sharded32,
    /// [`Placement::Multi32`].
    Multi32,
    /// [`Placement::Native64`].
    Native64,
    /// [`Placement::Paged`].
    Paged,
}

named!(PlacementKind, "placement", {
    Auto = "auto": "By size and free memory",
    Resident32 = "resident32": "One 32-bit memory",
    Sharded32 = "sharded32": "Several guests, each with a run of the layers",
    Multi32 = "multi32": "Several 32-bit memories of one guest, and one for the cache",
    Native64 = "native64": "One 64-bit memory, where the engine has them; slower",
    Paged = "paged": "Layers share a window, and are read as they are needed",
});

impl From<PlacementKind> for Placement {
    fn from(kind: PlacementKind) -> Self {
        match kind {
            PlacementKind::Auto => Self::Auto,
            PlacementKind::Resident32 => Self::Resident32,
            PlacementKind::Sharded32 => Self::Sharded32 { memories: None },
            PlacementKind::Multi32 => Self::Multi32,
            PlacementKind::Native64 => Self::Native64,
            PlacementKind::Paged => Self::Paged { resident_bytes: None, policy: Policy::default() },
        }
    }
}

impl FromStr for Placement {
    type Err = UnknownName;

    /// The placement of this name, with the defaults of its options.
    fn from_str(name: &str) -> std::result::Result<Self, UnknownName> {
        name.parse::<PlacementKind>().map(Self::from)
    }
}

impl fmt::Display for Placement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = match self {
            Self::Auto => PlacementKind::Auto,
            Self::Resident32 => PlacementKind::Resident32,
            Self::Sharded32 { .. } => PlacementKind::Sharded32,
            Self::Multi32 => PlacementKind::Multi32,
            Self::Native64 => PlacementKind::Native64,
            Self::Paged { .. } => PlacementKind::Paged,
            Self::Planned(_) => return f.pad("planned"),
        };
        kind.fmt(f)
    }
}

/// How weights and cache are cut into memories; changes where bytes lie, never a result.
///
/// ```
/// use polychord_session::{SessionOptions, Split};
///
/// let options = SessionOptions::new().split(Split::CacheApart);
/// # let _ = options;
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Split {
    /// Layers of all kinds in one memory of each guest; guests allocate their caches.
    #[default]
    ByLayer,
    /// One guest, with a memory for each kind of tensor (embeddings, attention, feed-forward,
    /// output) and one for the key-value cache.
    ByKind,
    /// Layers of all kinds in one memory of each guest, and its key-value cache in a second one.
    CacheApart,
}

named!(Split, "split", {
    ByLayer = "layer": "One memory for all layers of a guest",
    ByKind = "kind": "A memory for each kind of tensor and one for the cache, in one guest",
    CacheApart = "cache-apart": "One memory for all layers of a guest, and one for its cache",
});

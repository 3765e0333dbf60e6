//! How layers are spread over guests and memories, as a caller asks for it.

use std::fmt;
use std::str::FromStr;

use polychord_runtime_api::plan::{UnknownName, named};
use polychord_runtime_api::{Plan, Policy};

use super::split::{MultiSplit, ShardSplit, Split};

/// How a model's layers are spread over guests and their memories.
///
/// Each placement has the ways to split that it knows; one that it does not know cannot be asked for.
///
/// ```
/// use polychord_session::{Placement, SessionOptions, Split};
///
/// let paged = Placement::Paged { resident_bytes: Some(6 << 30), policy: Default::default() };
/// let options = SessionOptions::new().placement(paged.clone());
/// # let _ = options;
///
/// // By names, as a command line has them.
/// let placement: Placement = "resident32".parse().unwrap();
/// assert_eq!(placement, Placement::resident32());
/// assert_eq!(
///     placement.with_split(Split::ByKind),
///     Some(Placement::Resident32 { split: Split::ByKind }),
/// );
/// assert_eq!(paged.with_split(Split::ByKind), None);
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Placement {
    /// One memory if all fits there; else several, or a window if there is less free memory
    /// than weights.
    Auto {
        /// How weights and cache are cut, if what is chosen has that split; else by layer.
        split: Split,
    },
    /// All layers in one 32-bit guest.
    Resident32 {
        /// How weights and cache are cut.
        split: Split,
    },
    /// Contiguous runs of layers in several guests, each with its own 32-bit memory and its
    /// own part of the key-value cache.
    Sharded32 {
        /// How many guests; by default as few as have room.
        memories: Option<usize>,
        /// How weights and cache of each guest are cut.
        split: ShardSplit,
    },
    /// All layers in several 32-bit memories of one guest, and the cache in one more: for
    /// engines with several memories, and never chosen automatically.
    Multi32 {
        /// How weights are cut.
        split: MultiSplit,
    },
    /// All layers in one 64-bit guest, of any size: for engines that have such memories, and
    /// never chosen automatically, because 32-bit ones are faster.
    Native64 {
        /// How weights and cache are cut.
        split: Split,
    },
    /// All layers in one 64-bit guest, of any size, on every engine: where it has no such memories
    /// the guest is lowered ([`Memory64`](polychord_runtime_api::Memory64)). Never chosen
    /// automatically.
    Flat64 {
        /// How weights and cache are cut.
        split: Split,
        /// The first address that weights may have; 0 is as soon as there is room. Addresses below
        /// it take no memory, so a small model can be tried beyond 4 GiB.
        weights_from: u64,
    },
    /// Layers are brought in as they are needed, into windows that are smaller than all of them,
    /// and hold layers of all kinds.
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
/// assert_eq!(Placement::from(kind), Placement::sharded32(None));
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
    /// [`Placement::Flat64`].
    Flat64,
    /// [`Placement::Paged`].
    Paged,
}

named!(PlacementKind, "placement", {
    Auto = "auto": "By size and free memory",
    Resident32 = "resident32": "One 32-bit memory",
    Sharded32 = "sharded32": "Several guests, each with a run of the layers",
    Multi32 = "multi32": "Several 32-bit memories of one guest, and one for the cache",
    Native64 = "native64": "One 64-bit memory, where the engine has them; slower",
    Flat64 = "flat64": "One 64-bit memory on every engine: its own, or several 32-bit ones as one",
    Paged = "paged": "Layers share a window, and are read as they are needed",
});

impl Placement {
    /// By size and free memory.
    #[must_use]
    pub const fn auto() -> Self {
        Self::Auto { split: Split::ByLayer }
    }

    /// All layers in one 32-bit memory.
    #[must_use]
    pub const fn resident32() -> Self {
        Self::Resident32 { split: Split::ByLayer }
    }

    /// Runs of layers in this many guests, or in as few as have room.
    #[must_use]
    pub fn sharded32(memories: impl Into<Option<usize>>) -> Self {
        Self::Sharded32 { memories: memories.into(), split: ShardSplit::ByLayer }
    }

    /// All layers in several 32-bit memories of one guest.
    #[must_use]
    pub const fn multi32() -> Self {
        Self::Multi32 { split: MultiSplit::ByLayer }
    }

    /// All layers in one 64-bit memory.
    #[must_use]
    pub const fn native64() -> Self {
        Self::Native64 { split: Split::ByLayer }
    }

    /// All layers in one 64-bit memory, the engine's own or several 32-bit ones.
    #[must_use]
    pub const fn flat64() -> Self {
        Self::Flat64 { split: Split::ByLayer, weights_from: 0 }
    }

    /// The placement with another split, for those that have it by a name; none if this placement
    /// does not know it. The cache of [`Multi32`](Self::Multi32) is always apart, and the split of a
    /// plan is in it.
    #[must_use]
    pub fn with_split(self, split: Split) -> Option<Self> {
        Some(match (self, split) {
            (Self::Auto { .. }, split) => Self::Auto { split },
            (Self::Resident32 { .. }, split) => Self::Resident32 { split },
            (Self::Native64 { .. }, split) => Self::Native64 { split },
            (Self::Flat64 { weights_from, .. }, split) => Self::Flat64 { split, weights_from },
            (Self::Sharded32 { memories, .. }, Split::ByLayer) => {
                Self::Sharded32 { memories, split: ShardSplit::ByLayer }
            }
            (Self::Sharded32 { memories, .. }, Split::CacheApart) => {
                Self::Sharded32 { memories, split: ShardSplit::CacheApart }
            }
            (Self::Multi32 { .. }, Split::ByKind) => Self::Multi32 { split: MultiSplit::ByKind },
            (Self::Multi32 { .. }, _) => Self::Multi32 { split: MultiSplit::ByLayer },
            (paged @ Self::Paged { .. }, Split::ByLayer) => paged,
            _ => return None,
        })
    }
}

impl Default for Placement {
    fn default() -> Self {
        Self::auto()
    }
}

impl From<PlacementKind> for Placement {
    fn from(kind: PlacementKind) -> Self {
        match kind {
            PlacementKind::Auto => Self::auto(),
            PlacementKind::Resident32 => Self::resident32(),
            PlacementKind::Sharded32 => Self::sharded32(None),
            PlacementKind::Multi32 => Self::multi32(),
            PlacementKind::Native64 => Self::native64(),
            PlacementKind::Flat64 => Self::flat64(),
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
            Self::Auto { .. } => PlacementKind::Auto,
            Self::Resident32 { .. } => PlacementKind::Resident32,
            Self::Sharded32 { .. } => PlacementKind::Sharded32,
            Self::Multi32 { .. } => PlacementKind::Multi32,
            Self::Native64 { .. } => PlacementKind::Native64,
            Self::Flat64 { .. } => PlacementKind::Flat64,
            Self::Paged { .. } => PlacementKind::Paged,
            Self::Planned(_) => return f.pad("planned"),
        };
        kind.fmt(f)
    }
}

//! Layers: ranges of a file, with and without their places.

use serde::{Deserialize, Serialize};

/// Number of a layer, by which guests ask for it; the program that registers it chooses it.
///
/// ```
/// use polychord_plan::LayerId;
///
/// assert!(LayerId(0) < LayerId(1));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct LayerId(pub u32);

/// A layer as the model file has it.
///
/// ```
/// use polychord_plan::{LayerId, SourceRange};
///
/// let block = SourceRange::new(LayerId(3), "blk.3", 4096, 70_000);
/// assert_eq!(block.start + block.bytes, 74_096);
/// ```
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[non_exhaustive]
pub struct SourceRange {
    /// Number of the layer.
    pub id: LayerId,
    /// Its name for people.
    pub name: String,
    /// First byte in the file.
    pub start: u64,
    /// Length in bytes.
    pub bytes: u64,
}

/// The place of one layer.
///
/// ```
/// use polychord_plan::{LayerId, SourceRange};
///
/// // Both offsets lie 4,096 bytes into their 64 KiB page.
/// let placed = SourceRange::new(LayerId(3), "blk.3", 4096, 70_000).at(0, 65_536 + 4096);
/// assert_eq!((placed.memory, placed.offset), (0, 69_632));
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "FlatLayer")]
#[non_exhaustive]
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

/// A layer as it is written: without what this version does not know.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct FlatLayer {
    id: LayerId,
    name: String,
    start: u64,
    bytes: u64,
    memory: u32,
    offset: u64,
}

impl SourceRange {
    /// A layer of `bytes` bytes, from byte `start` of the file on.
    #[must_use]
    pub fn new(id: LayerId, name: impl Into<String>, start: u64, bytes: u64) -> Self {
        Self { id, name: name.into(), start, bytes }
    }

    /// The range with a place: at a byte of the memory of this index.
    #[must_use]
    pub const fn at(self, memory: u32, offset: u64) -> PlannedLayer {
        PlannedLayer { source: self, memory, offset }
    }
}

impl From<FlatLayer> for PlannedLayer {
    fn from(flat: FlatLayer) -> Self {
        let FlatLayer { id, name, start, bytes, memory, offset } = flat;
        SourceRange { id, name, start, bytes }.at(memory, offset)
    }
}

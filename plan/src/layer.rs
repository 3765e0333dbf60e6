//! Layers: ranges of a file, with and without their places.

use std::fmt;
use std::str::FromStr;

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

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
    /// SHA-256 of its bytes, if the plan says so: they are compared each time that the layer is loaded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sha256: Option<LayerHash>,
}

/// SHA-256 of a layer's bytes: 64 lower-case hexadecimal digits as text.
///
/// ```
/// use polychord_plan::LayerHash;
///
/// let hash = LayerHash([0xab; 32]);
/// assert_eq!(hash.to_string().parse(), Ok(hash));
/// assert!("AB".repeat(32).parse::<LayerHash>().is_err());
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LayerHash(pub [u8; 32]);

impl fmt::Display for LayerHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl FromStr for LayerHash {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let digit = |digit: &u8| match digit {
            b'0'..=b'9' => Some(digit - b'0'),
            b'a'..=b'f' => Some(digit - b'a' + 10),
            _ => None,
        };
        let (pairs, []) = text.as_bytes().as_chunks::<2>() else { return Err(NO_HASH) };
        let byte = |[high, low]: &[u8; 2]| Some((digit(high)? << 4) | digit(low)?);
        let bytes: Option<Vec<u8>> = pairs.iter().map(byte).collect();
        bytes.and_then(|bytes| bytes.try_into().ok()).map(Self).ok_or(NO_HASH)
    }
}

const NO_HASH: &str = "a SHA-256 has 64 digits, 0 to 9 and a to f";

impl Serialize for LayerHash {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for LayerHash {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        String::deserialize(from)?.parse().map_err(D::Error::custom)
    }
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
    #[serde(default)]
    sha256: Option<LayerHash>,
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
        PlannedLayer { source: self, memory, offset, sha256: None }
    }
}

impl From<FlatLayer> for PlannedLayer {
    fn from(flat: FlatLayer) -> Self {
        let FlatLayer { id, name, start, bytes, memory, offset, sha256 } = flat;
        PlannedLayer { sha256, ..SourceRange { id, name, start, bytes }.at(memory, offset) }
    }
}

//! Memories of 64-bit addresses, and where their bytes are.
//!
//! - [`region`](self): what a memory is divided into ([`MemorySpec`], [`Region`]).
//! - `segment`: the linear memories of a guest, and the ranges of them that a memory lies in.
//! - `image`: bytes that several guests show ([`Image`]).
//! - `mapping`: replacing whole pages, the one place that maps files.
//! - `place`: the pages of one layer, as loading and releasing change them.
//! - `shown`: the pages of one guest that show images.
//! - `memory64`: one memory, and where its bytes are.
//! - `space`: all memories of one guest, one space of addresses.
//! - `view`: the memories that a module declares, in those that its engine has.
//! - `stats`: the numbers of memories, and what is known about each.

pub(crate) mod image;
pub(crate) mod mapping;
pub(crate) mod memory64;
pub(crate) mod place;
pub(crate) mod region;
pub(crate) mod segment;
pub(crate) mod shown;
pub(crate) mod space;
pub(crate) mod stats;
pub(crate) mod view;

pub use self::image::{Image, ImageBuilder, ImageRoom};
pub use self::mapping::WholePages;
pub use self::region::{MemoryKind, MemorySpec, Region, RegionSpec};
pub use self::segment::{Backing, LinearMemories, Segment};
pub use self::stats::{MemoryId, MemoryStats};

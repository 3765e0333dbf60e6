//! Layers: contiguous ranges of a source, with places in a memory.
//!
//! - `layer`: what is registered, and the checks of places and overlaps.
//! - `added`: ranges of a file as layers of a guest, in one call.
//! - `source`: files, bytes, and memory for layers that have no file.
//! - `ranges`: bytes that are somewhere else, such as on a server.
//! - `compressed`: the store behind layers that have no file.

pub(crate) mod added;
pub(crate) mod compressed;
pub(crate) mod layer;
pub(crate) mod ranges;
pub(crate) mod source;

#[cfg(test)]
mod many;

pub use self::added::AddedLayers;
pub use self::layer::{CopyReason, LayerSpec, LoadMethod, LoadedLayer};
pub use self::ranges::ByteRanges;
pub use self::source::Source;

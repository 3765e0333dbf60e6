//! Why a layer cannot be registered.

use serde::Serialize;

/// Why a layer cannot be registered.
///
/// ```
/// use polychord_runtime_api::{Error, LayerProblem, LayerSpec, Runtime};
///
/// /// Registers a layer, unless another one has its number.
/// fn register_once(guest: &mut dyn Runtime, layer: LayerSpec) -> Result<(), Error> {
///     match guest.register_layer(layer) {
///         Err(Error::InvalidLayer { problem: LayerProblem::NumberTaken, .. }) => Ok(()),
///         result => result,
///     }
/// }
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum LayerProblem {
    /// Another layer has its number.
    NumberTaken,
    /// Guests cannot name its number.
    NumberTooLarge,
    /// It has no bytes.
    Empty,
    /// It leaves its memory.
    Place,
    /// It crosses the edge of a region or of a linear memory.
    Edge,
    /// It leaves its source.
    Source,
    /// Its bytes of a source without a file are those of another layer, too.
    SharedBytes,
    /// It shares a page with another layer.
    Overlap,
}

polychord_plan::named!(LayerProblem, "problem of a layer", { NumberTaken = "number_taken",
    NumberTooLarge = "number_too_large",
    Empty = "empty",
    Place = "place",
    Edge = "edge",
    Source = "source",
    SharedBytes = "shared_bytes",
    Overlap = "overlap" });

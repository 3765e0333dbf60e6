//! How activations are multiplied with quantized weights.

use polychord_abi::transformer::activations;
use polychord_plan::named;

/// How activations are multiplied with quantized weights.
///
/// Either way has the same result on every engine, but not the same as the other.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Activations {
    /// Activations stay 32-bit floats: the exact way.
    F32,
    /// Quantized to 8 bits in blocks, as llama.cpp does it, for integer products: faster. Weights
    /// that are floats are multiplied with floats.
    #[default]
    Int8,
}

named!(Activations, "kind of activations", {
    F32 = "f32": "As 32-bit floats: exact",
    Int8 = "int8": "Quantized to 8 bits, as llama.cpp does it: faster",
});

impl Activations {
    /// The number in the guest's contract.
    #[must_use]
    pub const fn number(self) -> u32 {
        match self {
            Self::F32 => activations::F32,
            Self::Int8 => activations::INT8,
        }
    }
}

use polychord_abi::transformer::activations;

/// How activations are multiplied with quantised weights: both have the same result on every
/// engine, but not the same as each other.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Activations {
    /// As they are, in 32-bit floats: the exact way.
    F32,
    /// Quantised to 8 bits in blocks, as llama.cpp does it, for integer products: faster. Weights
    /// that are floats are multiplied with floats.
    #[default]
    Int8,
}

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

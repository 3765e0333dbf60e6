use polychord_abi::transformer::ggml_type;

/// How the cache of keys and values stores its numbers: both have the same result on every engine,
/// but not the same as each other.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum CacheType {
    /// As they were computed, in 32-bit floats: the exact way.
    #[default]
    F32,
    /// Rounded to 16-bit floats, as llama.cpp does it by default: half of the memory.
    F16,
}

impl CacheType {
    /// The number in the guest's contract.
    #[must_use]
    pub const fn number(self) -> u32 {
        match self {
            Self::F32 => ggml_type::F32,
            Self::F16 => ggml_type::F16,
        }
    }

    /// Bytes of one number.
    #[must_use]
    pub const fn bytes(self) -> u64 {
        match self {
            Self::F32 => 4,
            Self::F16 => 2,
        }
    }
}

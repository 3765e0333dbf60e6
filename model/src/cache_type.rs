//! How the cache of keys and values stores its numbers.

use polychord_abi::transformer::ggml_type;
use polychord_plan::named;

/// How the cache of keys and values stores its numbers.
///
/// Either way has the same result on every engine, but not the same as the other.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum CacheType {
    /// As they were computed, in 32-bit floats: the exact way.
    #[default]
    F32,
    /// Rounded to 16-bit floats, as llama.cpp does it by default: half of the memory.
    F16,
}

named!(CacheType, "cache type", {
    F32 = "f32": "As 32-bit floats: exact",
    F16 = "f16": "As 16-bit floats, as llama.cpp does it: half of the memory",
});

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

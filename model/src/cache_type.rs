//! How the cache of keys and values stores its numbers.

use polychord_abi::buffers::{MOST_IN_ROW, cache_block};
use polychord_abi::network::feature;
use polychord_abi::transformer::ggml_type;
use polychord_plan::named;

use crate::config::Config;

/// How the cache of keys and values stores its numbers.
///
/// Each way has the same result on every engine, but not the same as another one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum CacheType {
    /// As they were computed, in 32-bit floats: the exact way.
    #[default]
    F32,
    /// Rounded to 16-bit floats, as llama.cpp does it by default: half of the memory.
    F16,
    /// As ggml's `Q8_0`, 32 numbers in 34 bytes: 8-bit integers with a scale. About a quarter of the
    /// memory, and for heads whose width is a multiple of 32.
    Q8_0,
}

named!(CacheType, "cache type", {
    F32 = "f32": "As 32-bit floats: exact",
    F16 = "f16": "As 16-bit floats, as llama.cpp does it: half of the memory",
    Q8_0 = "q8_0": "As blocks of 32 integers of 8 bits with a scale: about a quarter of the memory",
});

/// A row of keys and values that a cache of some type cannot have.
///
/// ```
/// use polychord_model::{CacheType, UnevenRow, config::Config};
///
/// fn smaller(config: &Config) -> CacheType {
///     match CacheType::Q8_0.check(config) {
///         Ok(()) => CacheType::Q8_0,
///         Err(UnevenRow { .. }) => CacheType::F16,
///     }
/// }
/// ```
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "a cache of type {cache_type} has blocks of {numbers} numbers and rows of at most {most}, but a head of block {block} has {row}: use a cache of type f16"
)]
#[non_exhaustive]
pub struct UnevenRow {
    /// The type.
    pub cache_type: CacheType,
    /// The block whose row it is.
    pub block: u32,
    /// Numbers of the row.
    pub row: u32,
    /// Numbers of a block of the type, of which a row has a whole number.
    pub numbers: u64,
    /// Most numbers of a row.
    pub most: u32,
}

impl CacheType {
    /// The number in the guest's contract.
    #[must_use]
    pub const fn number(self) -> u32 {
        match self {
            Self::F32 => ggml_type::F32,
            Self::F16 => ggml_type::F16,
            Self::Q8_0 => ggml_type::Q8_0,
        }
    }

    /// Checks that rows of a network can be stored so.
    ///
    /// # Errors
    ///
    /// [`UnevenRow`], with the first block whose heads have another width.
    pub fn check(self, config: &Config) -> Result<(), UnevenRow> {
        let (numbers, _) = cache_block(self.number()).unwrap_or((1, 0));
        let has_rows = |features: u64| features & (feature::SHORT_CONV | feature::DELTA_NET) == 0;
        let fits = |row: u32| numbers == 1 || u64::from(row) % numbers == 0 && row <= MOST_IN_ROW;
        let mut blocks = (0..).zip(&config.layers);
        match blocks.find(|(_, block)| has_rows(block.features) && !fits(block.head_dim)) {
            None => Ok(()),
            Some((number, block)) => Err(UnevenRow {
                cache_type: self,
                block: number,
                row: block.head_dim,
                numbers,
                most: MOST_IN_ROW,
            }),
        }
    }
}

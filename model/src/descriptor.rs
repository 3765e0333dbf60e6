//! The bytes by which the guest learns the shape of the network.

use std::ops::Range;

use polychord_abi::transformer::{Descriptor, Tensor, VERSION};

use crate::activations::Activations;
use crate::cache_type::CacheType;
use crate::config::Config;

/// How a guest computes a network.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Settings {
    /// Positions of the key-value cache.
    pub context: u32,
    /// Most tokens of one call.
    pub batch: u32,
    /// How activations are multiplied with quantized weights.
    pub activations: Activations,
    /// How keys and values are stored.
    pub cache_type: CacheType,
    /// Which rank the guest is, from 0.
    pub rank: u32,
    /// How many ranks compute together; 1 if the guest computes alone.
    pub ranks: u32,
}

impl Settings {
    /// A guest that computes alone, with the default kinds of activations and cache.
    #[must_use]
    pub fn new(context: u32, batch: u32) -> Self {
        let (activations, cache_type) = (Activations::default(), CacheType::default());
        Self { context, batch, activations, cache_type, rank: 0, ranks: 1 }
    }

    /// Sets how activations are multiplied, and how keys and values are stored.
    #[must_use]
    pub const fn numbers(mut self, activations: Activations, cache_type: CacheType) -> Self {
        self.activations = activations;
        self.cache_type = cache_type;
        self
    }

    /// Makes the guest one of `ranks` that compute together, by its number from 0.
    #[must_use]
    pub const fn rank(mut self, rank: u32, ranks: u32) -> Self {
        self.rank = rank;
        self.ranks = ranks;
        self
    }
}

/// Describes the shape of a network to a guest that holds the blocks `blocks` of it.
#[must_use]
pub fn header(config: &Config, settings: &Settings, blocks: Range<u32>) -> Descriptor {
    let Settings { context, batch, activations, cache_type, rank, ranks } = *settings;
    Descriptor {
        version: VERSION.cast_unsigned(),
        vocab: config.vocab,
        dim: config.dim,
        ffn: config.ffn,
        heads: config.heads,
        kv_heads: config.kv_heads,
        head_dim: config.head_dim,
        rope_dim: config.rope_dim,
        first_block: blocks.start,
        blocks: blocks.end - blocks.start,
        context,
        batch,
        rms_epsilon: config.rms_epsilon,
        rope_base: config.rope_base,
        rope_scale: config.rope_scale,
        activations: activations.number(),
        rank,
        cache_type: cache_type.number(),
        ranks,
        features: config.features,
        ..Descriptor::default()
    }
}

/// A header and tensors, as `transformer_init` takes them; `cache` is the address of memory
/// for keys and values, or 0.
#[must_use]
pub fn bytes(header: Descriptor, cache: u64, tensors: &[Tensor]) -> Vec<u8> {
    // The number of roles in each of 4,096 blocks, at most.
    let count = u32::try_from(tensors.len()).unwrap_or(u32::MAX);
    let [cache_low, cache_high] = [cache & u64::from(u32::MAX), cache >> 32]
        .map(|half| u32::try_from(half).unwrap_or(u32::MAX));
    let header = Descriptor { tensors: count, cache_low, cache_high, ..header };
    let mut bytes = header.to_le_bytes().to_vec();
    tensors.iter().for_each(|tensor| bytes.extend(tensor.to_le_bytes()));
    bytes
}

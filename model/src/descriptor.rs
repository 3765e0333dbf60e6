//! The bytes by which the guest learns the shape of the network.

use std::ops::Range;

use polychord_abi::buffers::Run;
use polychord_abi::network::role;
use polychord_abi::transformer::{Block, Descriptor, Rope, Tensor, VERSION};

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

    /// What buffers and caches follow from.
    #[must_use]
    pub fn run(&self) -> Run {
        let integers = self.activations == Activations::Int8;
        Run { context: self.context, batch: self.batch, integers }
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

/// Describes the network to a guest that holds the blocks `blocks` of it, and these tensors, as
/// `transformer_init` takes it; `cache` is the address of memory for keys and values, or 0.
#[must_use]
pub fn bytes(
    config: &Config,
    settings: &Settings,
    blocks: Range<u32>,
    cache: u64,
    tensors: &[Tensor],
) -> Vec<u8> {
    let Settings { context, batch, activations, cache_type, rank, ranks } = *settings;
    let ropes = ropes(config, context);
    let run = settings.run();
    let block = |number: u32| {
        let block = config.layers.get(number as usize)?;
        Some(Block { positions: config.positions(number, &run), ..*block })
    };
    let layers: Vec<_> = blocks.clone().filter_map(block).collect();
    // The number of roles in each of 4,096 blocks, at most.
    let count = |count: usize| u32::try_from(count).unwrap_or(u32::MAX);
    let [cache_low, cache_high] = [cache & u64::from(u32::MAX), cache >> 32]
        .map(|half| u32::try_from(half).unwrap_or(u32::MAX));
    let header = Descriptor {
        version: VERSION.cast_unsigned(),
        ropes: count(ropes.len()),
        blocks: count(layers.len()),
        tensors: count(tensors.len()),
        first_block: blocks.start,
        features: config.features,
        vocab: config.vocab,
        dim: config.dim,
        context,
        batch,
        epsilon: config.epsilon,
        embedding_scale: config.embedding_scale,
        residual_scale: config.residual_scale,
        logit_scale: config.logit_scale,
        logit_cap: config.logit_cap,
        activations: activations.number(),
        cache_low,
        cache_high,
        cache_type: cache_type.number(),
        rank,
        ranks,
        layer_input: config.layer_input,
        carried: config.carried(),
    };
    let mut bytes = header.to_le_bytes().to_vec();
    ropes.iter().for_each(|rope| bytes.extend(rope.to_le_bytes()));
    layers.iter().for_each(|block| bytes.extend(block.to_le_bytes()));
    tensors.iter().for_each(|tensor| bytes.extend(tensor.to_le_bytes()));
    bytes
}

/// The ropes of a network, with the factors that a context of this length takes.
fn ropes(config: &Config, context: u32) -> Vec<Rope> {
    let mut ropes = config.ropes.clone();
    if let Some(original) = config.long_context {
        let is_long = context > original;
        let role = if is_long { role::ROPE_FACTORS_LONG } else { role::ROPE_FACTORS_SHORT };
        ropes.iter_mut().for_each(|rope| rope.factors = role);
    }
    ropes
}

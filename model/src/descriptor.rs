//! The bytes by which the guest learns the shape of the network.

use std::ops::Range;

use polychord_abi::transformer::{Descriptor, Tensor, VERSION};

use crate::shard::Setup;

/// The shape of a network, for a guest that holds some blocks and computes with some settings.
pub(crate) fn header(setup: &Setup<'_>, blocks: Range<u32>) -> Descriptor {
    let Setup { model, context, batch, activations, cache_type, rank, .. } = *setup;
    let config = model.config();
    // No more than there are heads, whose number is a `u32`.
    let number = |number: usize| u32::try_from(number).unwrap_or(u32::MAX);
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
        rank: rank.map_or(0, |rank| number(rank.index())),
        cache_type: cache_type.number(),
        ranks: rank.map_or(1, |rank| number(rank.count())),
        features: config.features,
        ..Descriptor::default()
    }
}

/// A header and tensors, as `transformer_init` takes them; `cache` is the address of memory
/// for keys and values, or 0.
pub(crate) fn bytes(header: Descriptor, cache: u64, tensors: &[Tensor]) -> Vec<u8> {
    // The number of roles in each of 4,096 blocks, at most.
    let count = u32::try_from(tensors.len()).unwrap_or(u32::MAX);
    let [cache_low, cache_high] = [cache & u64::from(u32::MAX), cache >> 32]
        .map(|half| u32::try_from(half).unwrap_or(u32::MAX));
    let header = Descriptor { tensors: count, cache_low, cache_high, ..header };
    let mut bytes = header.to_le_bytes().to_vec();
    tensors.iter().for_each(|tensor| bytes.extend(tensor.to_le_bytes()));
    bytes
}

//! Llama 4: attention in chunks, and in every fourth block to everything, where nothing is rotated;
//! experts, whose weights their input is multiplied by, in every block or in some.

use polychord_abi::network::feature;

use super::{Architecture, Pairs, Result};
use crate::network::{Config, Experts, Keys, NO_ROPE, gating};

pub(super) const LLAMA4: Architecture = Architecture {
    // The expert of all tokens is as wide as the others.
    ignored: &["expert_shared_feed_forward_length"],
    read,
    ..Architecture::new("llama4", "Llama 4", Pairs::Neighbors)
};

/// Positions of a chunk, and of a step of the temperature, whatever the keys say.
const CHUNK: u32 = 8192;

fn read(keys: &Keys<'_>, config: &mut Config) -> Result<()> {
    let width = keys.expert_width(config.ffn)?;
    let step = keys.optional("interleave_moe_layer_step", u32::MAX)?;
    let step = step.ok_or_else(|| keys.missing("interleave_moe_layer_step"))? as usize;
    let experts = Experts::softmax(width)
        .gating(gating::SIGMOID_OF_CHOSEN)
        .shared(width, feature::WEIGHED_INPUT);
    config.require_experts_in(keys, experts, |number| (number + 1).is_multiple_of(step))?;
    if let Some(0) = keys.number("attention.sliding_window")? {
        // llama.cpp ends at this.
        return Err(keys.refused("attention.sliding_window"));
    }
    let is_largest = keys.number("expert_count")? == Some(128);
    let rope = keys.local_rope(config)?;
    config.each(|number, block| {
        if (number + 1).is_multiple_of(4) {
            block.rope = NO_ROPE;
            block.temperature = 0.1;
            (block.temperature_offset, block.temperature_length) = (1, CHUNK);
        } else {
            (block.window, block.rope) = (CHUNK, rope);
            block.features |= feature::CHUNKS;
            block.features |= if is_largest { 0 } else { feature::UNIT_NORMS };
        }
    });
    Ok(())
}

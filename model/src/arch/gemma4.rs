//! Gemma 4: heads that are wider where there is no window, norms of values, and keys for values. The
//! small ones have inputs for each block, and the last blocks use keys and values of others; one has
//! experts beside the dense part.

use polychord_abi::network::feature;
use polychord_abi::transformer::NO_FACTORS;

use super::gemma::scale_embedding;
use super::{Architecture, Pairs, Result};
use crate::network::{Block, Config, Experts, Keys};

pub(super) const GEMMA4: Architecture = Architecture {
    features: feature::GELU
        | feature::POST_NORMS
        | feature::HEAD_NORMS
        | feature::VALUE_NORMS
        | feature::BLOCK_SCALE,
    some: feature::LAYER_INPUTS | feature::SHARED_KEYS | feature::DENSE_BESIDE,
    read,
    ..Architecture::new("gemma4", "Gemma 4: E2B, E4B, 26B-A4B, 31B", Pairs::Halves)
};

fn read(keys: &Keys<'_>, config: &mut Config) -> Result<()> {
    scale_embedding(config);
    config.logit_cap = keys.cap("final_logit_softcapping")?.unwrap_or(30.0);
    let window = keys.window_or(None)?;
    let pattern = "attention.sliding_window_pattern";
    if !keys.is_there(pattern) {
        return Err(keys.missing(pattern));
    }
    let local = keys.local_blocks(config, 1)?;
    let width = keys.optional("attention.key_length_swa", u32::MAX)?.unwrap_or(config.head_dim);
    let values = keys.optional("attention.value_length_swa", u32::MAX)?.unwrap_or(width);
    if width != values {
        return Err(crate::network::Error::ValueLength { keys: width, values });
    }
    let turned = keys.optional("rope.dimension_count_swa", u32::MAX)?.unwrap_or(width);
    let base = keys.positive("rope.freq_base_swa")?.unwrap_or(10_000.0);
    let rope = keys.unstretched_rope(config, base)?;
    let plain = &mut config.ropes[1];
    (plain.dim, plain.factors) = (turned, NO_FACTORS);
    let scale = keys.factor("attention.scale")?.unwrap_or(1.0);
    config.each(|number, block| {
        block.attention_scale = scale;
        if !keys.has_tensor(&format!("blk.{number}.layer_output_scale.weight")) {
            block.features &= !feature::BLOCK_SCALE;
        }
        if local[number] {
            (block.window, block.rope, block.head_dim) = (window, rope, width);
        }
        if !keys.has_tensor(&format!("blk.{number}.attn_v.weight")) {
            block.features |= feature::KEYS_AS_VALUES;
        }
    });
    share_keys(keys, config, &local)?;
    if let Some(width) = keys.count("embedding_length_per_layer_input", u32::MAX)? {
        config.layer_input = width;
        config.features |= feature::LAYER_INPUTS;
        config.each(|_, block| block.features |= feature::LAYER_INPUTS);
    }
    read_experts(keys, config)
}

/// Lets the last blocks use the keys and values of the last one of their kind before them.
fn share_keys(keys: &Keys<'_>, config: &mut Config, local: &[bool]) -> Result<()> {
    let name = "attention.shared_kv_layers";
    let Some(shared) = keys.count(name, u32::MAX)? else { return Ok(()) };
    let own = config.blocks.checked_sub(shared).filter(|own| *own >= 2);
    let own = own.ok_or_else(|| keys.refused(name))?;
    let (with_window, without) = (own - 2, own - 1);
    if !local[with_window as usize] || local[without as usize] {
        return Err(keys.refused(name));
    }
    config.each(|number, block| {
        if number >= own as usize {
            block.features &= !feature::KEYS_AS_VALUES;
            block.features |= feature::SHARED_KEYS;
            block.keys_of = if local[number] { with_window } else { without };
        }
    });
    let blocks = &config.layers;
    let heads = |block: &Block| (block.heads, block.kv_heads, block.head_dim);
    let fits = |block: &Block| {
        block.features & feature::SHARED_KEYS == 0
            || heads(block) == heads(&blocks[block.keys_of as usize])
    };
    if blocks.iter().all(fits) { Ok(()) } else { Err(keys.refused(name)) }
}

/// Experts stand beside the dense part.
fn read_experts(keys: &Keys<'_>, config: &mut Config) -> Result<()> {
    if keys.count("expert_count", u32::MAX)?.is_none() {
        return Ok(());
    }
    let width = keys.expert_width(config.ffn)?;
    config.require_experts(keys, Experts::softmax(width).renormalized().beside_dense())?;
    config.each(|number, block| {
        if keys.has_tensor(&format!("blk.{number}.ffn_down_exps.scale")) {
            block.features |= feature::EXPERT_SCALES;
        }
    });
    Ok(())
}

//! DeepSeek 2 and 3: latent attention, and experts, in groups, behind some first blocks that have none.

use polychord_abi::network::feature;

use super::{Architecture, Pairs, Result};
use crate::network::{Config, Experts, Keys};

pub(super) const DEEPSEEK2: Architecture = Architecture {
    features: feature::LATENT,
    optional: feature::TIED_OUTPUT,
    read,
    ..Architecture::new("deepseek2", "DeepSeek 2 and 3", Pairs::Neighbors)
};

fn read(keys: &Keys<'_>, config: &mut Config) -> Result<()> {
    read_latent(keys, config, true)?;
    read_experts(keys, config)
}

/// Latent attention. With `is_even`, both magnitudes of YaRN have the same multiplier, unless it is 1.
#[expect(clippy::cast_possible_truncation, reason = "rounding to f32 is meant")]
pub(super) fn read_latent(keys: &Keys<'_>, config: &mut Config, is_even: bool) -> Result<()> {
    let query_rank = keys.count("attention.q_lora_rank", u32::MAX)?;
    let rank = keys.required("attention.kv_lora_rank", u32::MAX)?;
    let turned = config.ropes[0].dim;
    let width = keys.count("attention.key_length_mla", u32::MAX)?;
    let width = width.unwrap_or(config.head_dim);
    let name = "attention.value_length_mla";
    let (name, values) = match keys.count(name, u32::MAX)? {
        Some(values) => (name, Some(values)),
        None => ("attention.value_length", keys.count("attention.value_length", u32::MAX)?),
    };
    let values = values.ok_or_else(|| keys.missing("attention.value_length_mla"))?;
    let row = rank.checked_add(turned);
    let (Some(plain), Some(row)) = (width.checked_sub(turned).filter(|plain| *plain > 0), row)
    else {
        return Err(keys.refused("rope.dimension_count"));
    };
    if values > row {
        return Err(keys.refused(name));
    }
    read_temperature(keys, config)?;
    let magnitude = read_magnitude(keys, config, is_even)?;
    let scale = (magnitude * magnitude / f64::from(width).sqrt()) as f32;
    config.head_dim = row;
    config.each(|number, block| {
        if keys.has_tensor(&format!("blk.{number}.attn_kv_b.weight")) {
            block.features |= feature::FUSED_LATENT;
        }
        if let Some(query_rank) = query_rank {
            block.features |= feature::LOW_RANK_QUERIES;
            block.query_rank = query_rank;
        }
        (block.kv_heads, block.head_dim, block.attention_scale) = (1, row, scale);
        (block.latent_rank, block.plain_dim, block.value_dim) = (rank, plain, values);
    });
    Ok(())
}

/// Queries that grow with their position.
fn read_temperature(keys: &Keys<'_>, config: &mut Config) -> Result<()> {
    let length = keys.count("attention.temperature_length", u32::MAX)?;
    if let Some(temperature) = keys.factor("attention.temperature_scale")? {
        let length = length.ok_or_else(|| keys.missing("attention.temperature_length"))?;
        config.each(|_, block| {
            (block.temperature, block.temperature_length) = (temperature, length);
        });
    }
    Ok(())
}

/// Sets the magnitude of the rotation, and returns the root of what scores are multiplied by for it.
#[expect(clippy::cast_possible_truncation, reason = "rounding to f32 is meant")]
#[expect(clippy::float_cmp, reason = "as llama.cpp compares")]
fn read_magnitude(keys: &Keys<'_>, config: &mut Config, is_even: bool) -> Result<f64> {
    let log_multiplier = keys.factor("rope.scaling.yarn_log_multiplier")?;
    // Converters write a tenth.
    let multiplier = log_multiplier.unwrap_or(0.0) * 10.0;
    let factor = f64::from(keys.factor("rope.scaling.factor")?.unwrap_or(1.0));
    let of = |multiplier: f32| 1.0 + 0.1 * f64::from(multiplier) * factor.ln();
    let rope = &mut config.ropes[0];
    if rope.yarn_high < 0.0 {
        // llama.cpp multiplies scores as if YaRN had changed the magnitude of the rotation.
        let log = -f64::from(rope.scale).ln();
        let of = |multiplier: f32| 1.0 + 0.1 * f64::from(multiplier) * log;
        return Ok(f64::from(rope.magnitude) * of(1.0) * of(multiplier));
    }
    let own = f64::from(keys.factor("rope.scaling.attn_factor")?.unwrap_or(1.0));
    let above = if is_even && multiplier != 1.0 && multiplier != 0.0 { multiplier } else { 1.0 };
    rope.magnitude = (own * of(above) / of(multiplier)) as f32;
    Ok(f64::from(rope.magnitude) * of(multiplier))
}

/// Experts, of which some serve all tokens.
pub(super) fn read_experts(keys: &Keys<'_>, config: &mut Config) -> Result<()> {
    let width = keys.expert_width(config.ffn)?;
    let mut experts = Experts::softmax(width).grouped().biased();
    if let Some(shared) = keys.count("expert_shared_count", u32::MAX)? {
        let shared = shared.checked_mul(width);
        experts = experts.shared(shared.ok_or_else(|| keys.refused("expert_shared_count"))?, 0);
    }
    let dense = keys.count("leading_dense_block_count", u32::MAX)?.unwrap_or(0) as usize;
    config.require_experts_in(keys, experts, |number| number >= dense)
}

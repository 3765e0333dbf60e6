//! gpt-oss: experts with biases, sinks, and a window in every other block.

use polychord_abi::network::{feature, role};

use super::{Architecture, Pairs, Result};
use crate::network::{Config, Experts, Keys, gating};

pub(super) const GPT_OSS: Architecture = Architecture {
    features: feature::ATTN_OUTPUT_BIAS
        | feature::SINKS
        | feature::EXPERT_BIAS
        | feature::CLAMPED_GATE,
    some: feature::QKV_BIAS,
    optional: feature::QKV_BIAS | feature::FUSED_QKV,
    names: &[(role::FFN_NORM, "blk.{}.post_attention_norm.weight")],
    read,
    ..Architecture::new("gpt-oss", "gpt-oss", Pairs::Halves)
};

fn read(keys: &Keys<'_>, config: &mut Config) -> Result<()> {
    let width = keys.expert_width(config.ffn)?;
    let experts = Experts::softmax(width).gating(gating::SOFTMAX_OF_CHOSEN);
    config.require_experts(keys, experts)?;
    let window = keys.window_or(None)?;
    let local = keys.local_blocks(config, 2)?;
    let rope = keys.local_rope(config)?;
    config.each(|number, block| {
        if local[number] {
            (block.window, block.rope) = (window, rope);
        }
    });
    Ok(())
}

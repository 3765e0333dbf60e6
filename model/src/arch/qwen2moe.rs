//! Qwen 1.5 and 2 with experts, of which one serves all tokens, as much as a gate says.

use polychord_abi::network::feature;

use super::{Architecture, Pairs, Result};
use crate::network::{Config, Experts, Keys};

pub(super) const QWEN2MOE: Architecture = Architecture {
    some: feature::QKV_BIAS,
    read,
    ..Architecture::new("qwen2moe", "Qwen 1.5 and 2 with experts", Pairs::Halves)
};

fn read(keys: &Keys<'_>, config: &mut Config) -> Result<()> {
    let width = keys.expert_width(config.ffn)?;
    let shared = keys.optional("expert_shared_feed_forward_length", u32::MAX)?;
    let shared = shared.unwrap_or(config.ffn);
    config.require_experts(keys, Experts::softmax(width).shared(shared, feature::SHARED_GATE))
}

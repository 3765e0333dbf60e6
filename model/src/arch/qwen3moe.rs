//! Qwen 3 with experts.

use polychord_abi::network::feature;

use super::{Architecture, Pairs, Result};
use crate::network::{Config, Experts, Keys};

pub(super) const QWEN3MOE: Architecture = Architecture {
    features: feature::HEAD_NORMS,
    read,
    ..Architecture::new("qwen3moe", "Qwen 3 with experts", Pairs::Halves)
};

fn read(keys: &Keys<'_>, config: &mut Config) -> Result<()> {
    let width = keys.expert_width(config.ffn)?;
    config.require_experts(keys, Experts::softmax(width).renormalized())
}

//! Qwen3-Next: gated delta nets, and experts as Qwen 2 has them.

use polychord_abi::network::feature;

use super::qwen35::{NAMES, SOME, read_delta_nets};
use super::{Architecture, Pairs, Result};
use crate::network::{Config, Experts, Keys};

pub(super) const QWEN3NEXT: Architecture = Architecture {
    some: SOME,
    optional: feature::TIED_OUTPUT,
    names: NAMES,
    read,
    ..Architecture::new("qwen3next", "Qwen3-Next", Pairs::Halves)
};

fn read(keys: &Keys<'_>, config: &mut Config) -> Result<()> {
    read_delta_nets(keys, config, 0)?;
    read_experts(keys, config)
}

/// Divides all blocks into experts, of which one serves all tokens, by a gate.
pub(super) fn read_experts(keys: &Keys<'_>, config: &mut Config) -> Result<()> {
    let width = keys.expert_width(config.ffn)?;
    let shared = keys.optional("expert_shared_feed_forward_length", u32::MAX)?;
    let shared = shared.unwrap_or(width);
    let experts = Experts::softmax(width).renormalized().shared(shared, feature::SHARED_GATE);
    config.require_experts(keys, experts)
}

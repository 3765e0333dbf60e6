//! LFM 2 with experts, behind some first blocks that have none.

use polychord_abi::network::feature;

use super::lfm2::{self, NAMES};
use super::{Architecture, Pairs, Result};
use crate::network::{Config, Experts, Keys, gating};

pub(super) const LFM2MOE: Architecture = Architecture {
    some: feature::HEAD_NORMS | feature::SHORT_CONV,
    optional: feature::TIED_OUTPUT,
    names: NAMES,
    // llama.cpp looks at a window in models without experts alone.
    ignored: &["attention.sliding_window"],
    read,
    ..Architecture::new("lfm2moe", "LFM 2 with experts", Pairs::Halves)
};

fn read(keys: &Keys<'_>, config: &mut Config) -> Result<()> {
    lfm2::read_blocks(keys, config, 0)?;
    let width = keys.expert_width(config.ffn)?;
    let experts = Experts::softmax(width).gating(gating::SIGMOID).renormalized().biased();
    let dense = keys.count("leading_dense_block_count", u32::MAX)?.unwrap_or(0) as usize;
    config.require_experts_in(keys, experts, |number| number >= dense)
}

//! Command R7B and A: attention and feed-forward of the same input, and windows, outside of which
//! nothing is rotated.

use polychord_abi::network::feature;

use super::{Architecture, Pairs, Result};
use crate::network::{Config, Keys, NO_ROPE};

pub(super) const COHERE2: Architecture = Architecture {
    features: feature::PARALLEL | feature::LAYER_NORM | feature::TIED_OUTPUT,
    epsilon: "attention.layer_norm_epsilon",
    read,
    ..Architecture::new("cohere2", "Command R7B, Command A", Pairs::Neighbors)
};

fn read(keys: &Keys<'_>, config: &mut Config) -> Result<()> {
    config.logit_scale = keys.factor("logit_scale")?.ok_or_else(|| keys.missing("logit_scale"))?;
    let window = keys.window_or(None)?;
    let local = keys.local_blocks(config, 4)?;
    config.each(|number, block| match local[number] {
        true => block.window = window,
        false => block.rope = NO_ROPE,
    });
    Ok(())
}

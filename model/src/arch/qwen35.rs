//! Qwen 3.5: gated delta nets, and in every fourth block attention with gates.

use polychord_abi::network::{feature, role};
use polychord_abi::transformer::MOST_TAPS;

use super::{Architecture, Pairs, Result};
use crate::network::{Block, Config, Keys, NO_ROPE};

pub(super) const QWEN35: Architecture = Architecture {
    some: SOME,
    // The first block has a matrix that is called like that of fused queries, keys and values.
    optional: feature::TIED_OUTPUT,
    names: NAMES,
    read,
    ..Architecture::new("qwen35", "Qwen 3.5 and 3.6 without experts", Pairs::Halves)
};

/// What some of its blocks have.
pub(super) const SOME: u64 = feature::DELTA_NET | feature::HEAD_NORMS | feature::OUTPUT_GATE;
/// The norm in front of the feed-forward part is called by what is before it.
pub(super) const NAMES: &[(u32, &str)] = &[(role::FFN_NORM, "blk.{}.post_attention_norm.weight")];

fn read(keys: &Keys<'_>, config: &mut Config) -> Result<()> {
    // For text, all axes of a position are the same.
    keys.is_there("rope.dimension_sections");
    read_delta_nets(keys, config, feature::KEY_HEADS_IN_TURN)
}

/// Makes blocks delta nets, with these features, but for the last of each group.
pub(super) fn read_delta_nets(keys: &Keys<'_>, config: &mut Config, features: u64) -> Result<()> {
    let interval = keys.optional("full_attention_interval", u32::MAX)?.unwrap_or(4) as usize;
    let name = "ssm.conv_kernel";
    let taps = keys.required(name, MOST_TAPS)?;
    if taps < 2 {
        return Err(keys.refused(name));
    }
    let most = crate::network::MAX_HEADS;
    let heads = keys.required("ssm.time_step_rank", most)?;
    let key_heads = keys.required("ssm.group_count", most)?;
    if !heads.is_multiple_of(key_heads) {
        return Err(keys.refused("ssm.group_count"));
    }
    let width = keys.required("ssm.state_size", u32::MAX)?;
    let inner = keys.required("ssm.inner_size", u32::MAX)?;
    if heads.checked_mul(width) != Some(inner) {
        return Err(keys.refused("ssm.inner_size"));
    }
    config.each(|number, block| {
        if (number + 1).is_multiple_of(interval) {
            block.features |= feature::HEAD_NORMS | feature::OUTPUT_GATE;
            return;
        }
        let has_both = keys.has_tensor(&format!("blk.{number}.ssm_ba.weight"));
        block.features |= feature::DELTA_NET | features;
        block.features |= if has_both { feature::FUSED_RATES } else { 0 };
        *block =
            Block { heads, kv_heads: key_heads, head_dim: width, taps, rope: NO_ROPE, ..*block };
    });
    Ok(())
}

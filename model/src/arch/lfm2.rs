//! LFM 2: short convolutions in the place of attention, in blocks that have no heads of keys.

use polychord_abi::network::{feature, role};
use polychord_abi::transformer::MOST_TAPS;

use super::{Architecture, Pairs, Result};
use crate::network::{Config, Keys, NO_ROPE};

pub(super) const LFM2: Architecture = Architecture {
    some: feature::HEAD_NORMS | feature::SHORT_CONV,
    // The first block may be of either kind.
    optional: feature::TIED_OUTPUT,
    names: NAMES,
    read,
    ..Architecture::new("lfm2", "LFM 2", Pairs::Halves)
};

/// The last norm is called by the embedding.
pub(super) const NAMES: &[(u32, &str)] = &[(role::OUTPUT_NORM, "token_embd_norm.weight")];

fn read(keys: &Keys<'_>, config: &mut Config) -> Result<()> {
    let window = keys.window()?.unwrap_or(0);
    read_blocks(keys, config, window)
}

/// Which blocks are convolutions; the others have this window, or none if it is 0.
pub(super) fn read_blocks(keys: &Keys<'_>, config: &mut Config, window: u32) -> Result<()> {
    let name = "shortconv.l_cache";
    let taps = keys.required(name, MOST_TAPS)?;
    if taps < 2 {
        return Err(keys.refused(name));
    }
    let dim = config.dim;
    config.each(|_, block| {
        if block.kv_heads == 0 {
            // A channel is a head of one element.
            block.features |= feature::SHORT_CONV;
            (block.heads, block.kv_heads, block.head_dim) = (dim, dim, 1);
            (block.taps, block.rope) = (taps, NO_ROPE);
        } else {
            block.features |= feature::HEAD_NORMS;
            block.window = window;
        }
    });
    Ok(())
}

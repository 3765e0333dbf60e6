//! EXAONE 4: norms behind attention and feed-forward; in the largest, windows, outside of which
//! nothing is rotated.

use polychord_abi::network::feature;

use super::{Architecture, Pairs, Result};
use crate::network::{Config, Keys, NO_ROPE};

pub(super) const EXAONE4: Architecture = Architecture {
    features: feature::NO_PRE_NORMS | feature::POST_NORMS | feature::HEAD_NORMS,
    read,
    ..Architecture::new("exaone4", "EXAONE 4", Pairs::Halves)
};

fn read(keys: &Keys<'_>, config: &mut Config) -> Result<()> {
    let window = keys.window_or(Some(4096))?;
    let local = keys.local_blocks(config, 4)?;
    // Of the smaller ones llama.cpp uses no window, even if they name one.
    if config.blocks == 64 {
        config.each(|number, block| match local[number] {
            true => block.window = window,
            false => block.rope = NO_ROPE,
        });
    }
    Ok(())
}

//! SmolLM 3: every fourth block does not rotate.

use super::{Architecture, Pairs, Result};
use crate::network::{Config, Keys, NO_ROPE};

pub(super) const SMOLLM3: Architecture =
    Architecture { read, ..Architecture::new("smollm3", "SmolLM 3", Pairs::Neighbors) };

fn read(_: &Keys<'_>, config: &mut Config) -> Result<()> {
    config.each(|number, block| {
        if (number + 1).is_multiple_of(4) {
            block.rope = NO_ROPE;
        }
    });
    Ok(())
}

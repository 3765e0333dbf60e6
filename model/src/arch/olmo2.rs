//! OLMo 2 and 3: norms behind attention and feed-forward instead of before, and of whole rows of
//! queries and keys; OLMo 3 has windows, in which positions are not scaled.

use polychord_abi::network::feature;

use super::{Architecture, Pairs, Result};
use crate::network::{Config, Keys};

pub(super) const OLMO2: Architecture = Architecture {
    features: feature::NO_PRE_NORMS | feature::POST_NORMS | feature::ROW_NORMS,
    optional: Architecture::OPTIONAL & !feature::TIED_OUTPUT,
    read,
    ..Architecture::new("olmo2", "OLMo 2 and 3", Pairs::Halves)
};

fn read(keys: &Keys<'_>, config: &mut Config) -> Result<()> {
    let local = keys.local_blocks(config, 4)?;
    let Some(window) = keys.window()? else { return Ok(()) };
    let base = config.ropes[0].base;
    let rope = config.add_plain_rope(base);
    config.each(|number, block| {
        if local[number] {
            (block.window, block.rope) = (window, rope);
        }
    });
    Ok(())
}

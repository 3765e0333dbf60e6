//! Gemma 3: Gemma 2 without the cap of scores, with norms of heads, and two rotations.

use polychord_abi::network::feature;

use super::gemma::{scale_attention_of_largest, scale_embedding};
use super::{Architecture, Pairs, Result};
use crate::network::{Config, Keys};

pub(super) const GEMMA3: Architecture = Architecture {
    features: feature::GELU | feature::POST_NORMS | feature::HEAD_NORMS,
    read,
    ..Architecture::new("gemma3", "Gemma 3", Pairs::Halves)
};

fn read(keys: &Keys<'_>, config: &mut Config) -> Result<()> {
    scale_embedding(config);
    scale_attention_of_largest(config, 62);
    config.logit_cap = keys.cap("final_logit_softcapping")?.unwrap_or(0.0);
    let base = keys.positive("rope.freq_base_swa")?.unwrap_or(10_000.0);
    let local = keys.local_blocks(config, 6)?;
    let Some(window) = keys.window()? else { return Ok(()) };
    let rope = keys.unstretched_rope(config, base)?;
    config.each(|number, block| {
        if local[number] {
            (block.window, block.rope) = (window, rope);
        }
    });
    Ok(())
}

//! Gemma 2: four norms, soft caps of scores and logits, and a window in every other block.

use polychord_abi::network::feature;

use super::gemma::{scale_attention_of_largest, scale_embedding};
use super::{Architecture, Pairs, Result};
use crate::network::{Config, Keys};

pub(super) const GEMMA2: Architecture = Architecture {
    features: feature::GELU | feature::POST_NORMS | feature::TIED_OUTPUT,
    read,
    ..Architecture::new("gemma2", "Gemma 2", Pairs::Halves)
};

fn read(keys: &Keys<'_>, config: &mut Config) -> Result<()> {
    scale_embedding(config);
    scale_attention_of_largest(config, 46);
    let cap = keys.cap("attn_logit_softcapping")?.unwrap_or(50.0);
    config.logit_cap = keys.cap("final_logit_softcapping")?.unwrap_or(30.0);
    let window = keys.window_or(Some(4096))?;
    let local = keys.local_blocks(config, 2)?;
    let rope = keys.local_rope(config)?;
    config.each(|number, block| {
        block.attention_cap = cap;
        if local[number] {
            (block.window, block.rope) = (window, rope);
        }
    });
    Ok(())
}

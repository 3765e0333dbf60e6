//! Granite 3 and 4 without a state: Llama with four scales.

use super::{Architecture, Pairs, Result};
use crate::network::{Config, Experts, Keys};

pub(super) const GRANITE: Architecture =
    Architecture { read, ..Architecture::new("granite", "Granite 3", Pairs::Neighbors) };

fn read(keys: &Keys<'_>, config: &mut Config) -> Result<()> {
    read_scales(keys, config)?;
    read_experts(keys, config)?;
    if keys.bool("rope.scaling.finetuned")? == Some(false) {
        config.each(|_, block| block.rope = crate::network::NO_ROPE);
    }
    Ok(())
}

/// Experts, if the file has some, of which one may serve all tokens.
pub(super) fn read_experts(keys: &Keys<'_>, config: &mut Config) -> Result<()> {
    let mut experts = Experts::softmax(config.ffn).renormalized();
    if let Some(shared) = keys.count("expert_shared_feed_forward_length", u32::MAX)? {
        experts = experts.shared(shared, 0);
    }
    config.read_experts(keys, experts)
}

/// The scales of the embedding, of what blocks add, and of logits, which are divided by theirs.
pub(super) fn read_scales(keys: &Keys<'_>, config: &mut Config) -> Result<()> {
    config.embedding_scale = keys.factor("embedding_scale")?.unwrap_or(1.0);
    config.residual_scale = keys.factor("residual_scale")?.unwrap_or(1.0);
    let logits = keys.positive("logit_scale")?.ok_or_else(|| keys.missing("logit_scale"))?;
    config.logit_scale = 1.0 / logits;
    Ok(())
}

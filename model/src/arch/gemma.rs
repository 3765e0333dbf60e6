//! Gemma: a larger embedding, and GELU. The weights of its norms are stored with their 1 added.

use polychord_abi::network::feature;

use super::{Architecture, Pairs, Result};
use crate::network::{Config, Keys};

pub(super) const GEMMA: Architecture = Architecture {
    features: feature::GELU | feature::TIED_OUTPUT,
    read,
    ..Architecture::new("gemma", "Gemma", Pairs::Halves)
};

fn read(_: &Keys<'_>, config: &mut Config) -> Result<()> {
    scale_embedding(config);
    Ok(())
}

/// Multiplies the embedding by the root of its width.
#[expect(clippy::cast_precision_loss, reason = "a width is small")]
pub(super) fn scale_embedding(config: &mut Config) {
    config.embedding_scale = (config.dim as f32).sqrt();
}

/// What the largest of some generations multiplies scores by: as if heads were as wide as the
/// hidden state divided by their number.
#[expect(clippy::cast_precision_loss, reason = "a width is small")]
pub(super) fn scale_attention_of_largest(config: &mut Config, blocks: u32) {
    if config.blocks == blocks {
        let width = (config.dim / config.heads).max(1) as f32;
        config.each(|_, block| block.attention_scale = 1.0 / width.sqrt());
    }
}

//! EmbeddingGemma: Gemma 3 whose tokens attend to those behind them.

use polychord_abi::network::feature;

use super::gemma::scale_embedding;
use super::{Architecture, Pairs, Result};
use crate::network::{Config, Keys};

pub(super) const GEMMA_EMBEDDING: Architecture = Architecture {
    features: feature::GELU | feature::POST_NORMS | feature::HEAD_NORMS | feature::ENCODER,
    read,
    ..Architecture::new("gemma-embedding", "EmbeddingGemma", Pairs::Halves)
};

fn read(keys: &Keys<'_>, config: &mut Config) -> Result<()> {
    scale_embedding(config);
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

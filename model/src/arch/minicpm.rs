//! `MiniCPM` 1 and 2: the graph of Granite, with scales that old files do not name.

use super::{Architecture, Pairs, Result};
use crate::network::{Config, Keys};

pub(super) const MINICPM: Architecture =
    Architecture { read, ..Architecture::new("minicpm", "MiniCPM 1 and 2", Pairs::Neighbors) };

#[expect(clippy::cast_precision_loss, reason = "widths and numbers of blocks are small")]
fn read(keys: &Keys<'_>, config: &mut Config) -> Result<()> {
    let residual = 1.4 / (config.blocks as f32).sqrt();
    config.embedding_scale = keys.factor("embedding_scale")?.unwrap_or(12.0);
    config.residual_scale = keys.factor("residual_scale")?.unwrap_or(residual);
    let logits = keys.factor("logit_scale")?.unwrap_or(256.0 / config.dim as f32);
    config.logit_scale = 1.0 / logits;
    Ok(())
}

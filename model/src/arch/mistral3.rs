//! Ministral 3: Llama with YaRN by keys of its own, and queries that grow with their position.

use super::{Architecture, Pairs, Result};
use crate::network::{Config, Experts, Keys};

pub(super) const MISTRAL3: Architecture =
    Architecture { read, ..Architecture::new("mistral3", "Ministral 3", Pairs::Neighbors) };

fn read(keys: &Keys<'_>, config: &mut Config) -> Result<()> {
    keys.read_own_yarn(config)?;
    let width = config.ffn;
    config.read_experts(keys, Experts::softmax(width).renormalized())?;
    let length = keys.optional("rope.scaling.original_context_length", u32::MAX)?;
    if let Some(temperature) = keys.factor("attention.temperature_scale")? {
        let length = length.unwrap_or(config.context_length);
        config.each(|_, block| {
            block.temperature = temperature;
            block.temperature_length = length;
        });
    }
    Ok(())
}

//! Mistral 4: the graph of DeepSeek, with one multiplier for both magnitudes of its rotation.

use polychord_abi::network::feature;

use super::deepseek2::{read_experts, read_latent};
use super::{Architecture, Pairs, Result};
use crate::network::{Config, Keys};

pub(super) const MISTRAL4: Architecture = Architecture {
    features: feature::LATENT,
    optional: feature::TIED_OUTPUT,
    read,
    ..Architecture::new("mistral4", "Mistral 4", Pairs::Neighbors)
};

fn read(keys: &Keys<'_>, config: &mut Config) -> Result<()> {
    read_latent(keys, config, false)?;
    read_experts(keys, config)
}

//! GLM 4: four norms, gate and factor in one matrix, and rotation of a part of each head.

use polychord_abi::network::feature;

use super::{Architecture, Pairs, Result};
use crate::network::{Config, Keys};

pub(super) const GLM4: Architecture = Architecture {
    features: feature::POST_NORMS | feature::FUSED_GATE,
    read,
    ..Architecture::new("glm4", "GLM 4", Pairs::Neighbors)
};

fn read(keys: &Keys<'_>, config: &mut Config) -> Result<()> {
    // Positions of several axes, which for text are all the same: rotation of halves.
    if keys.is_there("rope.dimension_sections") {
        config.ropes.iter_mut().for_each(|rope| rope.halves = 1);
    }
    Ok(())
}

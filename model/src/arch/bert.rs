//! BERT and models that are trained like it: positions by a table, norms behind each half of a block.

use polychord_abi::network::{ROLES, feature, role};
use polychord_abi::transformer::NO_ROPE;

use super::{Architecture, Pairs, Result};
use crate::network::{Config, Error, Keys};

pub(super) const BERT: Architecture = Architecture {
    features: ENCODER | feature::NO_GATE | feature::GELU,
    epsilon: EPSILON,
    read,
    ..Architecture::new("bert", "BERT, MiniLM, BGE, E5, GTE", Pairs::Halves)
};

/// What all encoders like BERT have.
pub(super) const ENCODER: u64 =
    feature::ENCODER | feature::NO_PRE_NORMS | feature::SUM_NORMS | feature::LAYER_NORM;

/// The key of what their norms add.
pub(super) const EPSILON: &str = "attention.layer_norm_epsilon";

fn read(keys: &Keys<'_>, config: &mut Config) -> Result<()> {
    require_encoder(keys)?;
    let name = ROLES[role::POSITIONS as usize].name;
    let Some(dims) = keys.dims_of(name) else {
        return Err(Error::MissingTensor { name: name.to_owned() });
    };
    let expected = vec![config.dim.into(), config.context_length.into()];
    if *dims != *expected {
        return Err(Error::TensorShape { name: name.to_owned(), found: dims.to_vec(), expected });
    }
    config.each(|_, block| block.rope = NO_ROPE);
    Ok(())
}

/// Refuses a file that does not say that tokens attend to those behind them: without the key, they
/// do not.
pub(super) fn require_encoder(keys: &Keys<'_>) -> Result<()> {
    match keys.bool("attention.causal")? {
        Some(_) => Ok(()),
        None => Err(keys.missing("attention.causal")),
    }
}

//! Nomic's BERT: with rotation in place of a table of positions, and a gate.

use super::bert::{ENCODER, EPSILON, require_encoder};
use super::{Architecture, Pairs};

pub(super) const NOMIC_BERT: Architecture = Architecture {
    features: ENCODER,
    epsilon: EPSILON,
    read: |keys, _| require_encoder(keys),
    ..Architecture::new("nomic-bert", "Nomic Embed 1 and 1.5", Pairs::Halves)
};

//! Phi 3, 3.5 and 4: queries, keys and values in one matrix, gate and factor in another, and
//! rotations for short and for long contexts.

use polychord_abi::network::feature;

use super::{Architecture, Pairs};

pub(super) const PHI3: Architecture = Architecture {
    features: feature::FUSED_GATE,
    // llama.cpp reads it, and attends to everything.
    ignored: &["attention.sliding_window"],
    ..Architecture::new("phi3", "Phi 3, 3.5 and 4", Pairs::Halves)
};

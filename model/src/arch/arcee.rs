//! Arcee's foundation model: Llama with one matrix instead of a gate, and the square of what is
//! above zero.

use polychord_abi::network::feature;

use super::{Architecture, Pairs};

pub(super) const ARCEE: Architecture = Architecture {
    features: feature::NO_GATE | feature::RELU_SQUARED,
    ..Architecture::new("arcee", "Arcee AFM", Pairs::Neighbors)
};

//! Qwen 3: each head of queries and keys is normalized.

use polychord_abi::network::feature;

use super::{Architecture, Pairs};

pub(super) const QWEN3: Architecture = Architecture {
    features: feature::HEAD_NORMS,
    ..Architecture::new("qwen3", "Qwen 3", Pairs::Halves)
};

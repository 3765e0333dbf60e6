//! Qwen 2 and 2.5: biases of queries, keys and values, and rotation of halves.

use polychord_abi::network::feature;

use super::{Architecture, Pairs};

pub(super) const QWEN2: Architecture = Architecture {
    // llama.cpp runs files without them, too.
    some: feature::QKV_BIAS,
    ..Architecture::new("qwen2", "Qwen 2 and 2.5", Pairs::Halves)
};

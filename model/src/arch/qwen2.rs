//! Qwen 2 and 2.5: biases of queries, keys and values, and rotation of halves.

use polychord_abi::network::feature;

use super::Architecture;

pub(super) const QWEN2: Architecture = Architecture {
    name: "qwen2",
    features: feature::ROPE_HALVES | feature::QKV_BIAS,
    optional: feature::TIED_OUTPUT,
};

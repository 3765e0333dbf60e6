//! Hunyuan without experts: heads of queries and keys are normalized after their rotation.

use polychord_abi::network::feature;

use super::{Architecture, Pairs};

pub(super) const HUNYUAN_DENSE: Architecture = Architecture {
    features: feature::HEAD_NORMS | feature::LATE_NORMS,
    ..Architecture::new("hunyuan-dense", "Hunyuan without experts", Pairs::Halves)
};

//! Seed-OSS: Qwen 2 with another name of the second norm.

use polychord_abi::network::role;

use super::{Architecture, Pairs};

pub(super) const SEED_OSS: Architecture = Architecture {
    names: &[(role::FFN_NORM, "blk.{}.post_attention_norm.weight")],
    ..Architecture::new("seed_oss", "Seed-OSS", Pairs::Halves)
};

//! Qwen 3.5 with experts: the delta nets of [`qwen35`](super::qwen35), and the experts of Qwen3-Next.

use polychord_abi::network::feature;

use super::qwen3next::read_experts;
use super::qwen35::{NAMES, SOME, read_delta_nets};
use super::{Architecture, Pairs, Result};
use crate::network::{Config, Keys};

pub(super) const QWEN35MOE: Architecture = Architecture {
    some: SOME,
    optional: feature::TIED_OUTPUT,
    names: NAMES,
    read,
    ..Architecture::new("qwen35moe", "Qwen 3.5 and 3.6 with experts", Pairs::Halves)
};

fn read(keys: &Keys<'_>, config: &mut Config) -> Result<()> {
    // For text, all axes of a position are the same.
    keys.is_there("rope.dimension_sections");
    read_delta_nets(keys, config, feature::KEY_HEADS_IN_TURN)?;
    read_experts(keys, config)
}

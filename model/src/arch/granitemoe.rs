//! Granite 3 with experts.

use super::granite::{read_experts, read_scales};
use super::{Architecture, Pairs, Result};
use crate::network::{Config, Keys};

pub(super) const GRANITEMOE: Architecture = Architecture {
    read,
    ..Architecture::new("granitemoe", "Granite 3 with experts", Pairs::Neighbors)
};

fn read(keys: &Keys<'_>, config: &mut Config) -> Result<()> {
    read_scales(keys, config)?;
    keys.required("expert_count", u32::MAX)?;
    read_experts(keys, config)
}

//! Granite 3 with experts.

use super::granite::read_scales;
use super::{Architecture, Pairs, Result};
use crate::network::{Config, Experts, Keys};

pub(super) const GRANITEMOE: Architecture =
    Architecture { read, ..Architecture::new("granitemoe", "Granite 3 with experts", Pairs::Neighbors) };

fn read(keys: &Keys<'_>, config: &mut Config) -> Result<()> {
    read_scales(keys, config)?;
    let mut experts = Experts::softmax(config.ffn).renormalized();
    if let Some(shared) = keys.optional("expert_shared_feed_forward_length", u32::MAX)? {
        experts = experts.shared(shared, 0);
    }
    config.require_experts(keys, experts)
}

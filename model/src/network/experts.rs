//! How a feed-forward part is divided into experts.

use polychord_abi::network::feature;
use polychord_abi::transformer::gating;

use super::config::Config;
use super::error::Error;
use super::keys::Keys;

/// Most experts of a block; the largest known models have 512.
const MAX_EXPERTS: u32 = 65_536;

/// What an architecture says about its experts; files may say otherwise.
pub(crate) struct Experts {
    gating: u32,
    features: u32,
    width: u32,
    shared: u32,
}

impl Experts {
    /// Experts of a width, weighed by the softmax of all.
    pub(crate) const fn softmax(width: u32) -> Self {
        Self { gating: gating::SOFTMAX, features: feature::EXPERTS, width, shared: 0 }
    }

    /// The weights of those that are chosen are divided by their sum.
    pub(crate) const fn renormalized(mut self) -> Self {
        self.features |= feature::EXPERT_RENORM;
        self
    }

    /// Weighs them otherwise.
    pub(crate) const fn gating(mut self, gating: u32) -> Self {
        self.gating = gating;
        self
    }

    /// One more serves all tokens, with these features.
    pub(crate) const fn shared(mut self, width: u32, features: u32) -> Self {
        self.features |= feature::SHARED_EXPERT | features;
        self.shared = width;
        self
    }
}

impl Config {
    /// Divides all blocks into experts, if the file has any.
    pub(crate) fn read_experts(&mut self, keys: &Keys<'_>, experts: Experts) -> Result<(), Error> {
        match keys.count("expert_count", MAX_EXPERTS)? {
            Some(_) => self.require_experts(keys, experts),
            // Of none, none can be used.
            None => match keys.count("expert_used_count", MAX_EXPERTS)? {
                Some(_) => Err(keys.missing("expert_count")),
                None => Ok(()),
            },
        }
    }

    /// Divides all blocks into experts.
    pub(crate) fn require_experts(
        &mut self,
        keys: &Keys<'_>,
        experts: Experts,
    ) -> Result<(), Error> {
        self.require_experts_in(keys, experts, |_| true)
    }

    /// Divides the blocks of some numbers into experts.
    pub(crate) fn require_experts_in(
        &mut self,
        keys: &Keys<'_>,
        experts: Experts,
        is_divided: impl Fn(usize) -> bool,
    ) -> Result<(), Error> {
        let count = keys.required("expert_count", MAX_EXPERTS)?;
        let used = keys.required("expert_used_count", count)?;
        let scale = keys.factor("expert_weights_scale")?.unwrap_or(1.0);
        let mut features = experts.features;
        match keys.bool("expert_weights_norm")? {
            Some(true) => features |= feature::EXPERT_RENORM,
            Some(false) => features &= !feature::EXPERT_RENORM,
            None => {}
        }
        let gating = keys.count("expert_gating_func", gating::SOFTMAX_OF_CHOSEN)?;
        self.each(|number, block| {
            if !is_divided(number) {
                return;
            }
            block.features |= features;
            block.ffn = 0;
            block.experts = count;
            block.experts_used = used;
            block.expert_ffn = experts.width;
            block.shared_ffn = experts.shared;
            block.gating = gating.unwrap_or(experts.gating);
            block.expert_scale = scale;
        });
        Ok(())
    }
}

//! How a feed-forward part is divided into experts.

use polychord_abi::network::feature;
use polychord_abi::transformer::{MOST_GROUPS, gating};

use super::config::Config;
use super::error::Error;
use super::keys::Keys;

/// Most experts of a block; the largest known models have 512.
const MAX_EXPERTS: u32 = 65_536;

/// What an architecture says about its experts; files may say otherwise.
pub(crate) struct Experts {
    gating: u32,
    features: u64,
    width: u32,
    shared: u32,
    has_groups: bool,
    has_choice_bias: bool,
}

impl Experts {
    /// Experts of a width, weighed by the softmax of all.
    pub(crate) const fn softmax(width: u32) -> Self {
        Self {
            gating: gating::SOFTMAX,
            features: feature::EXPERTS,
            width,
            shared: 0,
            has_groups: false,
            has_choice_bias: false,
        }
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

    /// A token chooses from the best groups, if the file has some.
    pub(crate) const fn grouped(mut self) -> Self {
        self.has_groups = true;
        self
    }

    /// A bias is added for choosing, in blocks of which the file has one.
    pub(crate) const fn biased(mut self) -> Self {
        self.has_choice_bias = true;
        self
    }

    /// A dense part stands beside them, in blocks that have both.
    pub(crate) const fn beside_dense(mut self) -> Self {
        self.features |= feature::DENSE_BESIDE;
        self
    }

    /// One more serves all tokens, with these features.
    pub(crate) const fn shared(mut self, width: u32, features: u64) -> Self {
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
        let (groups, groups_used) = read_groups(keys, &experts, count, used)?;
        self.each(|number, block| {
            if !is_divided(number) {
                return;
            }
            let has = |name: &str| keys.has_tensor(&format!("blk.{number}.{name}"));
            block.features |= features;
            if has("ffn_gate_up_exps.weight") {
                block.features |= feature::FUSED_EXPERTS;
            }
            if experts.has_choice_bias && has("exp_probs_b.bias") {
                block.features |= feature::CHOICE_BIAS;
            }
            (block.expert_groups, block.expert_groups_used) = (groups, groups_used);
            if experts.features & feature::DENSE_BESIDE == 0 {
                block.ffn = 0;
            }
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

/// How many groups experts are in, and how many of them a token chooses from; 0 without groups.
fn read_groups(
    keys: &Keys<'_>,
    experts: &Experts,
    count: u32,
    used: u32,
) -> Result<(u32, u32), Error> {
    if !experts.has_groups {
        return Ok((0, 0));
    }
    let groups = keys.count("expert_group_count", MOST_GROUPS)?.filter(|groups| *groups > 1);
    let groups_used = keys.count("expert_group_used_count", groups.unwrap_or(1))?;
    let Some(groups) = groups else { return Ok((0, 0)) };
    if !count.is_multiple_of(groups) {
        return Err(keys.refused("expert_group_count"));
    }
    let name = "expert_group_used_count";
    let groups_used = groups_used.ok_or_else(|| keys.missing(name))?;
    // A token finds as many experts as it uses.
    if used > count / groups * groups_used {
        return Err(keys.refused(name));
    }
    Ok((groups, groups_used))
}

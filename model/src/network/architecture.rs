//! What the networks of one architecture have in common.

use polychord_abi::network::{Need, ROLES, feature, role};

use super::config::Config;
use super::error::Error;
use super::keys::Keys;
use crate::gguf::Gguf;

/// Which elements of a head are rotated together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Pairs {
    /// Elements `2 * i` and `2 * i + 1` (NORM).
    Neighbors,
    /// Elements `i` and `i + rope_dim / 2` (NEOX).
    Halves,
}

/// What the networks of one `general.architecture` have in common.
#[derive(Debug)]
pub(crate) struct Architecture {
    /// `general.architecture`, with which its keys begin.
    pub(crate) name: &'static str,
    /// Which models it is, for the table of families.
    pub(crate) models: &'static str,
    /// How it rotates.
    pub(crate) pairs: Pairs,
    /// Features that all of its networks have: bits of [`feature`].
    pub(crate) features: u64,
    /// Features that some of its blocks or networks have, as its keys say: for the table of families.
    pub(crate) some: u64,
    /// Features that those of its networks have whose files say so by their tensors.
    pub(crate) optional: u64,
    /// Tensors that have another name in its files than in [`ROLES`]: role and name.
    pub(crate) names: &'static [(u32, &'static str)],
    /// Keys that change a computation elsewhere, and nothing here: llama.cpp does not use them either.
    pub(crate) ignored: &'static [&'static str],
    /// The key of what norms add before the root.
    pub(crate) epsilon: &'static str,
    /// Reads what it has beyond the common ground, blocks being as the common keys say.
    pub(crate) read: fn(&Keys<'_>, &mut Config) -> Result<(), Error>,
}

impl Architecture {
    /// What any file may have.
    pub(crate) const OPTIONAL: u64 =
        feature::QKV_BIAS | feature::ATTN_OUTPUT_BIAS | feature::FUSED_QKV | feature::TIED_OUTPUT;

    /// The graph of Llama.
    pub(crate) const fn new(name: &'static str, models: &'static str, pairs: Pairs) -> Self {
        Self {
            name,
            models,
            pairs,
            features: 0,
            some: 0,
            optional: Self::OPTIONAL,
            names: &[],
            ignored: &[],
            epsilon: "attention.layer_norm_rms_epsilon",
            read: |_, _| Ok(()),
        }
    }

    /// The name of a role's tensors in its files, with `{}` for the number of the block.
    pub(crate) fn name_of(&self, role: u32) -> &'static str {
        let other = self.names.iter().find(|(its, _)| *its == role);
        other.map_or_else(|| ROLES[role as usize].name, |(_, name)| name)
    }

    /// The features of the network in a file, as its first block has them.
    ///
    /// One tensor is enough for a feature: which others it takes is checked afterwards, so that a
    /// file that has some of them is refused.
    pub(crate) fn features_of(&self, gguf: &Gguf) -> u64 {
        let is_there = |role: u32| gguf.tensor(&self.name_of(role).replace("{}", "0")).is_some();
        let mut features = self.features;
        for role in ROLES {
            if let Need::If { with, .. } = role.need
                && with & self.optional != 0
                && with & !(self.optional | self.features) == 0
                && is_there(role.number)
            {
                features |= with;
            }
        }
        if self.optional & feature::TIED_OUTPUT != 0 && !is_there(role::OUTPUT) {
            features |= feature::TIED_OUTPUT;
        }
        features
    }
}

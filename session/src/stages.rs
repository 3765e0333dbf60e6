//! Guests of one plan in several processes, each of which is a stage.

use std::ops::Range;

use polychord_runtime_api::Rank;

use crate::error::{Error, Result};
use crate::setup::Setup;
use crate::shard::Shard;

/// Where a guest is.
pub(crate) enum Place {
    /// In this process.
    Here(Box<Shard>),
    /// In another one.
    There {
        /// The stage that has it.
        owner: usize,
        /// The blocks that it holds.
        blocks: Range<u32>,
    },
}

/// This process as a stage, and what it has of the others.
pub(crate) struct Stages {
    rank: Rank,
    guests: usize,
    /// Of the hidden state of one token.
    pub(crate) hidden_bytes: usize,
    /// Of what goes with it, which is nothing in most networks.
    pub(crate) carried_bytes: usize,
    pub(crate) logit_bytes: usize,
    /// What was shared last.
    shared: Vec<u8>,
}

impl Place {
    pub(crate) const fn here(&self) -> Option<&Shard> {
        match self {
            Self::Here(shard) => Some(shard),
            Self::There { .. } => None,
        }
    }

    pub(crate) const fn here_mut(&mut self) -> Option<&mut Shard> {
        match self {
            Self::Here(shard) => Some(shard),
            Self::There { .. } => None,
        }
    }

    /// The blocks that the guest holds.
    pub(crate) const fn blocks(&self) -> &Range<u32> {
        match self {
            Self::Here(shard) => shard.blocks(),
            Self::There { blocks, .. } => blocks,
        }
    }

    /// The stage that has it.
    pub(crate) fn owner(&self, stages: &Stages) -> usize {
        match self {
            Self::Here(_) => stages.rank.index(),
            Self::There { owner, .. } => *owner,
        }
    }
}

impl Stages {
    pub(crate) fn new(rank: &Rank, setup: &Setup<'_>) -> Result<Self> {
        let guests = setup.placed.plan.guests() as usize;
        let stages = rank.count();
        if stages > guests {
            let reason = format!(
                "it has {guests} guests, too few for {stages} stages: use the placement sharded32 with {stages} memories or more"
            );
            return Err(Error::Plan { reason });
        }
        let config = setup.model.config();
        let bytes = |numbers: u32| numbers as usize * size_of::<f32>();
        Ok(Self {
            rank: rank.clone(),
            guests,
            hidden_bytes: bytes(config.dim),
            carried_bytes: bytes(config.carried()),
            logit_bytes: bytes(config.vocab),
            shared: Vec::new(),
        })
    }

    /// The stage that has a guest, if it is not this one: neighbors stay together.
    pub(crate) fn elsewhere(&self, guest: u32) -> Option<usize> {
        let owner = guest as usize * self.rank.count() / self.guests;
        Some(owner).filter(|owner| *owner != self.rank.index())
    }

    /// Gives all stages the bytes that one of them has, which `fill` writes there and nowhere else.
    pub(crate) fn share(
        &mut self,
        owner: usize,
        bytes: usize,
        fill: impl FnOnce(&mut [u8]) -> Result<()>,
    ) -> Result<&[u8]> {
        self.shared.resize(bytes, 0);
        fill(&mut self.shared)?;
        self.rank.broadcast_from(owner, &mut self.shared)?;
        Ok(&self.shared)
    }

    /// What was shared last.
    pub(crate) fn shared(&self) -> &[u8] {
        &self.shared
    }

    /// Takes over what was shared with another session.
    pub(crate) fn continue_from(&mut self, other: &Self) {
        self.shared.clone_from(&other.shared);
    }
}

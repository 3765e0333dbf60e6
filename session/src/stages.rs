//! Guests of one plan in several processes, each of which is a stage.

use std::ops::Range;

use polychord_runtime_api::{Plan, Rank};

use crate::error::{Error, Result};
use crate::options::Stage;
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
    index: usize,
    count: usize,
    link: Option<Rank>,
    /// The ranks of this stage.
    team: Option<Rank>,
    /// The stage of each guest.
    owners: Vec<usize>,
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
            Self::Here(_) => stages.index,
            Self::There { owner, .. } => *owner,
        }
    }
}

impl Stages {
    pub(crate) fn new(stage: &Stage, setup: &Setup<'_>) -> Result<Self> {
        let plan = &setup.placed.plan;
        let config = setup.model.config();
        let bytes = |numbers: u32| numbers as usize * size_of::<f32>();
        let team = setup.rank.cloned();
        let speaks = team.as_ref().is_none_or(|team| team.index() == 0);
        Ok(Self {
            index: stage.index(),
            count: stage.count(),
            link: stage.link().cloned().filter(|_| speaks),
            team,
            owners: owners(plan, stage.count())?,
            hidden_bytes: bytes(config.dim),
            carried_bytes: bytes(config.carried()),
            logit_bytes: bytes(config.vocab),
            shared: Vec::new(),
        })
    }

    /// The stage that has a guest, if it is not this one.
    pub(crate) fn elsewhere(&self, guest: u32) -> Option<usize> {
        self.owners.get(guest as usize).copied().filter(|owner| *owner != self.index)
    }

    /// The number of this stage.
    pub(crate) const fn index(&self) -> usize {
        self.index
    }

    /// How many stages there are.
    pub(crate) const fn count(&self) -> usize {
        self.count
    }

    /// How this rank reaches other stages, if it does.
    pub(crate) const fn link(&self) -> Option<&Rank> {
        self.link.as_ref()
    }

    /// The ranks that compute this stage, if there are several.
    pub(crate) const fn team(&self) -> Option<&Rank> {
        self.team.as_ref()
    }

    /// Gives one stage the bytes that another has, which `fill` writes there and nowhere else; none for the
    /// stages that have nothing to do with it.
    pub(crate) fn pass(
        &mut self,
        [from, to]: [usize; 2],
        bytes: usize,
        fill: impl FnOnce(&mut [u8]) -> Result<()>,
    ) -> Result<Option<&[u8]>> {
        if self.index != from && self.index != to {
            return Ok(None);
        }
        self.shared.resize(bytes, 0);
        if self.index == from {
            if let Some(link) = &self.link {
                fill(&mut self.shared)?;
                link.send_to(to, &self.shared)?;
            }
            return Ok(None);
        }
        if let Some(link) = &self.link {
            link.receive_from(from, &mut self.shared, bytes)?;
            check_length(self.shared.len(), bytes, from)?;
        }
        if let Some(team) = &self.team {
            team.broadcast_from(0, &mut self.shared)?;
        }
        Ok(Some(&self.shared))
    }

    /// Gives all stages the bytes that one of them has, which `fill` writes there and nowhere else.
    pub(crate) fn share(
        &mut self,
        owner: usize,
        bytes: usize,
        fill: impl FnOnce(&mut [u8]) -> Result<()>,
    ) -> Result<()> {
        self.shared.resize(bytes, 0);
        fill(&mut self.shared)?;
        if let Some(link) = &self.link {
            link.broadcast_from(owner, &mut self.shared)?;
        }
        if let Some(team) = &self.team {
            team.broadcast_from(0, &mut self.shared)?;
        }
        Ok(())
    }

    /// Waits until all ranks of all stages have finished.
    pub(crate) fn finish(&self) -> Result<()> {
        if let Some(link) = &self.link {
            link.finish()?;
        }
        if let Some(team) = &self.team {
            team.finish()?;
        }
        Ok(())
    }

    /// Sets the logits of the sequence.
    pub(crate) fn set_shared(&mut self, bytes: &[u8]) {
        self.shared.clear();
        self.shared.extend_from_slice(bytes);
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

/// The stage of each guest of a plan: its host, or as many guests for each as for the others, neighbors together.
fn owners(plan: &Plan, stages: usize) -> Result<Vec<usize>> {
    let guests = plan.guests() as usize;
    if !plan.hosts.is_empty() {
        let hosts = plan.host_count() as usize;
        if hosts != stages {
            let reason = format!(
                "it is for {hosts} hosts, and there are {stages} stages: start as many processes for each host, or make a plan for {stages} hosts"
            );
            return Err(Error::Plan { reason });
        }
        return Ok(plan.hosts.iter().map(|host| *host as usize).collect());
    }
    if stages > guests {
        let reason = format!(
            "it has {guests} guests, too few for {stages} stages: use the placement sharded32 with {stages} memories or more"
        );
        return Err(Error::Plan { reason });
    }
    Ok((0..guests).map(|guest| guest * stages / guests).collect())
}

/// That a stage has sent as much as this one takes.
pub(crate) fn check_length(found: usize, expected: usize, from: usize) -> Result<()> {
    if found == expected {
        return Ok(());
    }
    let reason = format!("stage {from} has sent {found} bytes where {expected} were expected");
    Err(Error::Plan { reason })
}

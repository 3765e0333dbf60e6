//! What a stage computes of sequences that go through all stages one behind the other.

use polychord_runtime_api::Rank;

use super::{Pipeline, not_here};
use crate::error::{Error, Result};
use crate::shard::Shard;
use crate::stages::{Place, Stages};

/// What a stage does with what has come for it.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Duty {
    /// Its part of a batch: what it is made of is the hidden state that the stage before has sent, and what
    /// becomes of it is that of the next one, or what the first stage takes if `logits` are wanted of the last.
    Batch { logits: bool },
    /// On a first stage that has the output: logits of what the last stage has sent.
    Head,
}

/// Where a stage is among all, and how much goes from one to the next.
#[derive(Clone)]
pub(crate) struct Station {
    /// To the other stages, if this rank reaches them.
    pub(crate) link: Option<Rank>,
    pub(crate) index: usize,
    pub(crate) count: usize,
    /// Of the hidden state of a token, and what goes with it.
    pub(crate) row_bytes: usize,
    /// Of what the last stage sends to the first.
    pub(crate) result_bytes: usize,
    /// Whether the first stage has the output, so that what it gets is a hidden state and no logits.
    pub(crate) head_is_first: bool,
    /// Most tokens of a message.
    pub(crate) batch: usize,
}

impl Pipeline {
    /// Where this stage is, if sequences can go through all of them in order: the first has the embedding, each
    /// later one blocks behind those before it, and the first or the last has the output.
    pub(crate) fn station(&self) -> Result<Option<Station>> {
        let Some(stages) = self.stages.as_ref().filter(|stages| stages.count() > 1) else {
            return Ok(None);
        };
        let owner = |guest: usize| self.shards[guest].owner(stages);
        let owners: Vec<_> = self.route.blocks.iter().map(|guest| owner(*guest)).collect();
        let (last, head) = (stages.count() - 1, owner(self.route.head));
        if owner(self.route.embed) != 0 || !owners.is_sorted() || !(head == 0 || head == last) {
            let reason =
                "several sequences go through stages in the order of the blocks alone".into();
            return Err(Error::Plan { reason });
        }
        let row_bytes = stages.hidden_bytes + stages.carried_bytes;
        Ok(Some(Station {
            link: stages.link().cloned(),
            index: stages.index(),
            count: stages.count(),
            row_bytes,
            result_bytes: if head == 0 { row_bytes } else { stages.logit_bytes },
            head_is_first: head == 0,
            batch: self.batch,
        }))
    }

    /// This rank's part of what a stage does with the rows that have come, which are replaced by those that go
    /// on. Success of one rank of the stage is success of all.
    pub(crate) fn pass(
        &mut self,
        duty: Duty,
        tokens: &[u32],
        position: u32,
        rows: &mut Vec<u8>,
    ) -> Result<()> {
        let _guard = self.rank.as_ref().map(Rank::stop_if_panicking);
        let is_first = self.stages.as_ref().is_some_and(|stages| stages.index() == 0);
        let done = match duty {
            Duty::Batch { .. } if is_first => self.first_stage(tokens, position, rows),
            Duty::Batch { logits } => self.later_stage(tokens.len(), position, rows, logits),
            Duty::Head => self.head_of_stages(rows),
        };
        match (done, self.stages.as_ref().and_then(Stages::team)) {
            (Ok(()), Some(team)) => team.finish()?,
            (Err(error), Some(team)) => {
                team.stop(&error);
                return Err(error);
            }
            (done, None) => done?,
        }
        self.unfinished = false;
        Ok(())
    }

    /// The first stage's part of a batch: replaces `rows` by the hidden state that goes to the next one.
    fn first_stage(&mut self, tokens: &[u32], position: u32, rows: &mut Vec<u8>) -> Result<()> {
        self.recover(position)?;
        let embed = self.route.embed;
        self.stage(embed, |phases| &mut phases.embed, |shard| shard.embed(tokens))?;
        let at = self.own_blocks(Some(embed), position, tokens.len())?;
        self.read_all(at, tokens.len(), rows)
    }

    /// A later stage's part of a batch, of which `rows` are what the stage before has sent: replaces them by
    /// what goes on, which is what the first stage takes if `logits` are wanted of the last.
    fn later_stage(
        &mut self,
        count: usize,
        position: u32,
        rows: &mut Vec<u8>,
        logits: bool,
    ) -> Result<()> {
        self.recover(position)?;
        let first = self.route.blocks.iter().copied().find(|guest| self.is_here(*guest));
        let mut at = None;
        if let Some(first) = first {
            self.write_all(first, count, rows)?;
            at = Some(self.own_blocks(Some(first), position, count)?);
        }
        let head = self.route.head;
        let is_last = self.stages.as_ref().is_some_and(|it| it.index() + 1 == it.count());
        match (is_last && logits, at) {
            (true, at) if self.is_here(head) => {
                match at {
                    Some(at) => self.hand_over(at, head, count)?,
                    None => self.write_all(head, count, rows)?,
                }
                self.stage(head, |phases| &mut phases.head, |shard| shard.head(count - 1))?;
                let shard = self.shards[head].here().ok_or_else(not_here)?;
                rows.clear();
                rows.extend_from_slice(shard.logits());
            }
            (last, Some(at)) => {
                self.read_all(at, count, rows)?;
                if last {
                    self.keep_last(count, rows);
                }
            }
            (true, None) => self.keep_last(count, rows),
            (false, None) => {}
        }
        Ok(())
    }

    /// The end of a batch on a first stage that has the output.
    fn head_of_stages(&mut self, row: &[u8]) -> Result<()> {
        let head = self.route.head;
        self.write_all(head, 1, row)?;
        self.stage(head, |phases| &mut phases.head, |shard| shard.head(0))
    }

    /// Sets logits that the last stage has computed.
    pub(crate) fn set_shared(&mut self, logits: &[u8]) -> Result<()> {
        self.stages.as_mut().ok_or_else(not_here)?.set_shared(logits);
        Ok(())
    }

    /// Runs the blocks that are here; returns the guest that has the hidden state then.
    fn own_blocks(&mut self, from: Option<usize>, position: u32, count: usize) -> Result<usize> {
        let mut at = from.ok_or_else(not_here)?;
        for index in 0..self.route.blocks.len() {
            let next = self.route.blocks[index];
            if !self.is_here(next) {
                continue;
            }
            self.hand_over(at, next, count)?;
            let run = |shard: &mut Shard| shard.run(position, count);
            self.stage(next, |phases| &mut phases.blocks, run)?;
            at = next;
        }
        Ok(at)
    }

    fn is_here(&self, guest: usize) -> bool {
        self.shards.get(guest).is_some_and(|place| place.here().is_some())
    }

    fn sizes(&self) -> Result<(usize, usize)> {
        let sizes = |stages: &Stages| (stages.hidden_bytes, stages.carried_bytes);
        self.stages.as_ref().map(sizes).ok_or_else(not_here)
    }

    fn read_all(&self, guest: usize, count: usize, rows: &mut Vec<u8>) -> Result<()> {
        let (hidden, carried) = self.sizes()?;
        rows.resize(count * (hidden + carried), 0);
        let (hidden, carried) = rows.split_at_mut(count * hidden);
        self.shards[guest].here().ok_or_else(not_here)?.read_rows(hidden, carried)
    }

    fn write_all(&mut self, guest: usize, count: usize, rows: &[u8]) -> Result<()> {
        let (hidden, _) = self.sizes()?;
        let (hidden, carried) = rows.split_at_checked(count * hidden).ok_or_else(not_here)?;
        let shard = self.shards.get_mut(guest).and_then(Place::here_mut);
        shard.ok_or_else(not_here)?.write_rows(hidden, carried)
    }

    /// Leaves the last row alone, which is what logits are made of.
    fn keep_last(&self, count: usize, rows: &mut Vec<u8>) {
        let Ok((hidden, carried)) = self.sizes() else { return };
        let ends = [count * hidden, count * (hidden + carried)];
        let last = [ends[0] - hidden..ends[0], ends[1] - carried..ends[1]];
        *rows = last.into_iter().flat_map(|part| rows[part].to_vec()).collect();
    }
}

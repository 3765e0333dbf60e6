//! What a stage computes of sequences that go through all stages one behind the other.

use polychord_runtime_api::Rank;

use super::{Pipeline, not_here};
use crate::error::{Error, Result};
use crate::shard::Shard;
use crate::stages::{Place, Stages};

/// Where a stage is among all, and how much goes from one to the next.
#[derive(Clone)]
pub(crate) struct Station {
    /// To the other stages.
    pub(crate) link: Rank,
    pub(crate) index: usize,
    pub(crate) count: usize,
    /// Of the hidden state of a token, and what goes with it.
    pub(crate) row_bytes: usize,
    /// Of what the last stage sends to the first.
    pub(crate) result_bytes: usize,
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
        let refuse = |reason: &str| Err(Error::Plan { reason: reason.to_owned() });
        let Some(link) = stages.link().filter(|_| !stages.has_team()) else {
            return refuse("several sequences go through stages of one rank each");
        };
        let owner = |guest: usize| self.shards[guest].owner(stages);
        let owners: Vec<_> = self.route.blocks.iter().map(|guest| owner(*guest)).collect();
        let (last, head) = (stages.count() - 1, owner(self.route.head));
        if owner(self.route.embed) != 0 || !owners.is_sorted() || !(head == 0 || head == last) {
            return refuse("several sequences go through stages in the order of the blocks alone");
        }
        let row_bytes = stages.hidden_bytes + stages.carried_bytes;
        Ok(Some(Station {
            link: link.clone(),
            index: stages.index(),
            count: stages.count(),
            row_bytes,
            result_bytes: if head == 0 { row_bytes } else { stages.logit_bytes },
            batch: self.batch,
        }))
    }

    /// The first stage's part of a batch: replaces `rows` by the hidden state that goes to the next one.
    pub(crate) fn first_stage(
        &mut self,
        tokens: &[u32],
        position: u32,
        rows: &mut Vec<u8>,
    ) -> Result<()> {
        self.recover(position)?;
        let embed = self.route.embed;
        self.stage(embed, |phases| &mut phases.embed, |shard| shard.embed(tokens))?;
        let at = self.own_blocks(Some(embed), position, tokens.len())?;
        self.read_all(at, tokens.len(), rows)?;
        self.unfinished = false;
        Ok(())
    }

    /// A later stage's part of a batch, of which `rows` are what the stage before has sent: replaces them by
    /// what goes on, which is what the first stage takes if `logits` are wanted of the last.
    pub(crate) fn later_stage(
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
        self.unfinished = false;
        Ok(())
    }

    /// The end of a batch on the first stage: logits of what the last one has sent.
    pub(crate) fn end_of_stages(&mut self, result: &[u8]) -> Result<()> {
        let head = self.route.head;
        if self.is_here(head) {
            self.write_all(head, 1, result)?;
            return self.stage(head, |phases| &mut phases.head, |shard| shard.head(0));
        }
        self.stages.as_mut().ok_or_else(not_here)?.set_shared(result);
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

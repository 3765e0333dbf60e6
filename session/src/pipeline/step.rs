//! A token of each of several sequences, with one pass over the weights.

use std::time::Instant;

use super::{Pipeline, not_here};
use crate::error::Result;
use crate::shard::Shard;
use crate::stages::Place;
use crate::stats::profile::Phases;

impl Pipeline {
    /// Whether [`step`](Self::step) can take a token of that one's sequence.
    pub(crate) fn steps_with(&self, other: &Self) -> bool {
        let name = |it: &Self| it.rank.as_ref().map(|rank| (rank.index(), rank.count()));
        self.stages.is_none()
            && other.stages.is_none()
            && name(self) == name(other)
            && self.shards.iter().map(Place::blocks).eq(other.shards.iter().map(Place::blocks))
    }

    /// Computes a token of each of several sequences together with the other ranks, as
    /// [`eval`](Self::eval) does with those of one: the first of this pipeline's sequence, and then one of
    /// each other pipeline's. The logits of each are where its own evaluation would have put them.
    pub(crate) fn step(
        &mut self,
        others: &mut [&mut Self],
        tokens: &[u32],
        positions: &[u32],
    ) -> Result<()> {
        let start = Instant::now();
        self.phases = Phases::default();
        self.together(|all| all.step_alone(others, tokens, positions))?;
        self.unfinished = false;
        others.iter_mut().for_each(|other| other.unfinished = false);
        let (tokens, total) = (tokens.len() as u64, start.elapsed());
        self.profile.add(Phases { tokens, total, ..self.phases }, false);
        Ok(())
    }

    fn step_alone(
        &mut self,
        others: &mut [&mut Self],
        tokens: &[u32],
        positions: &[u32],
    ) -> Result<()> {
        let (first, rest) = positions.split_first().ok_or_else(not_here)?;
        self.recover(*first)?;
        for (other, position) in others.iter_mut().zip(rest) {
            other.recover(*position)?;
        }
        let (head, mut at) = (self.route.head, self.route.embed);
        self.stage(at, |phases| &mut phases.embed, |shard| shard.embed(tokens))?;
        for index in 0..self.route.blocks.len() {
            let next = self.route.blocks[index];
            self.hand_over(at, next, tokens.len())?;
            let mut others = shards(others, next)?;
            let run = |shard: &mut Shard| shard.step(&mut others, positions);
            self.stage(next, |phases| &mut phases.blocks, run)?;
            at = next;
        }
        self.hand_over(at, head, tokens.len())?;
        let mut others = shards(others, head)?;
        self.stage(head, |phases| &mut phases.head, |shard| shard.step_heads(&mut others))
    }
}

/// A guest of each pipeline, by its number in the plan.
fn shards<'a>(pipelines: &'a mut [&mut Pipeline], guest: usize) -> Result<Vec<&'a mut Shard>> {
    let shard = |pipeline: &'a mut &mut Pipeline| {
        pipeline.shards.get_mut(guest).and_then(Place::here_mut).ok_or_else(not_here)
    };
    pipelines.iter_mut().map(shard).collect()
}

//! The guests of one rank, and the way of a batch through them.

mod flow;
mod step;

use std::time::{Duration, Instant};

use polychord_abi::transformer::export;
use polychord_model::Pooling;
use polychord_model::layout::{Layout, Part};
use polychord_receipts::snapshot::RowHeader;
use polychord_runtime_api::{Image, Plan, PlannedLayer, Rank, Runtime};

use crate::caches::{Caches, Given, ImageRows};
use crate::embed::Pool;
use crate::error::{Error, Result};
use crate::setup::Setup;
use crate::shard::{self, Batch, Shard};
use crate::stages::{Place, Stages};
use crate::stats::expert_stats::ExpertStats;
use crate::stats::load_report::LoadReport;
use crate::stats::profile::{Phases, Profile, timed};
use crate::stats::session_stats::{GuestStats, SessionStats};
use crate::touch::{Known, Trial};

pub(crate) use flow::{Duty, Station};

/// All guests of a plan, as one rank has them.
pub(crate) struct Pipeline {
    /// In the order of the plan's guests.
    shards: Vec<Place>,
    route: Route,
    batch: usize,
    /// Which of several it is.
    rank: Option<Rank>,
    /// Whether an evaluation has begun and not succeeded: its guests may have been stopped.
    unfinished: bool,
    profile: Profile,
    /// Of the evaluation that runs.
    phases: Phases,
    stages: Option<Stages>,
    /// Whether guests touch weights ahead, and how many bytes they were told to.
    touch: Trial,
    touched: u32,
    /// What the last evaluation for an [`Embedding`](Wanted::Embedding) has left of its sequence.
    vector: Vec<f32>,
}

/// The way of the hidden state through the shards, by their numbers.
struct Route {
    embed: usize,
    blocks: Vec<usize>,
    head: usize,
}

/// What an evaluation is for.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Wanted {
    /// Keys and values of its tokens: more tokens follow.
    Cache,
    /// Logits, too, of what follows the last token.
    Logits,
    /// What is left of a sequence that begins with its tokens.
    Embedding(Pooling),
}

/// Most bytes of hidden state that wait in the host between blocks: 64 MiB.
const PASS: usize = 64 << 20;

impl Pipeline {
    /// Starts the guests of a plan and loads their layers.
    pub(crate) fn start(
        setup: &Setup<'_>,
        report: &mut LoadReport,
        progress: &mut dyn FnMut(u64),
    ) -> Result<Self> {
        let plan = &setup.placed.plan;
        let stages = setup.stage.map(|stage| Stages::new(stage, setup)).transpose()?;
        let mut shards = Vec::new();
        for guest in 0..plan.guests() {
            let owner = stages.as_ref().and_then(|stages| stages.elsewhere(guest));
            shards.push(match owner {
                Some(owner) => Place::There { owner, blocks: shard::blocks_of(setup, guest)? },
                None => Place::Here(Shard::start(setup, guest, report, progress)?.into()),
            });
        }
        let route = Route::new(setup.layout, plan, &shards)?;
        let touch = Trial::new(setup.touch_ahead, known(setup));
        Ok(Self {
            touch,
            touched: 0,
            shards,
            route,
            batch: setup.batch as usize,
            rank: setup.rank.or_else(|| stages.as_ref()?.link()).cloned(),
            unfinished: false,
            profile: Profile::default(),
            phases: Phases::default(),
            stages,
            vector: Vec::new(),
        })
    }

    /// Computes tokens together with the other ranks: the first that fails stops all, and success
    /// of one is success of all.
    pub(crate) fn eval(&mut self, tokens: &[u32], position: u32, result: Wanted) -> Result<()> {
        let start = Instant::now();
        self.phases = Phases::default();
        self.together(|all| all.eval_alone(tokens, position, result))?;
        self.unfinished = false;
        if is_decoding(tokens, position, result) {
            let Phases { embed, blocks, head, .. } = self.phases;
            self.touch.record(embed + blocks + head);
        }
        let is_prompt = tokens.len() > 1 || position == 0;
        let (tokens, total) = (tokens.len() as u64, start.elapsed());
        self.profile.add(Phases { tokens, total, ..self.phases }, is_prompt);
        Ok(())
    }

    fn together(&mut self, compute: impl FnOnce(&mut Self) -> Result<()>) -> Result<()> {
        let _guard = self.rank.as_ref().map(Rank::stop_if_panicking);
        let done = compute(self);
        let Some(rank) = &self.rank else { return done };
        match done {
            Ok(()) => timed(&mut self.phases.ranks, || match &self.stages {
                Some(stages) => stages.finish(),
                None => Ok(rank.finish()?),
            }),
            Err(error) => {
                rank.stop(&error);
                Err(error)
            }
        }
    }

    /// Makes guests usable that were stopped in an evaluation before, at any instruction.
    ///
    /// They do not know that themselves. Their part of the sequence is as it was before that
    /// evaluation as far as the session relies on it: keys and values of new positions only were
    /// written, or of some that no later one sees. Where that is not so, it begins at position 0.
    fn recover(&mut self, position: u32) -> Result<()> {
        if self.unfinished {
            for shard in self.shards.iter_mut().filter_map(Place::here_mut) {
                shard.restart(position)?;
            }
        }
        self.unfinished = true;
        Ok(())
    }

    fn eval_alone(&mut self, tokens: &[u32], position: u32, result: Wanted) -> Result<()> {
        self.recover(position)?;
        if is_decoding(tokens, position, result) {
            self.touch_ahead(self.touch.next())?;
        }
        if let Wanted::Embedding(pooling) = result {
            return self.embed(tokens, pooling);
        }
        let several = tokens.len() > self.batch;
        let paged = self.stages.is_none() && self.here().any(Shard::is_paged);
        let (shard, rows) = if several && paged {
            self.eval_by_block(tokens, position)?
        } else {
            self.eval_by_batch(tokens, position)?
        };
        if result == Wanted::Cache {
            return Ok(());
        }
        self.hand_over(shard, self.route.head, rows)?;
        self.stage(self.route.head, |phases| &mut phases.head, |shard| shard.head(rows - 1))?;
        self.share_logits()
    }

    /// Tells the guests how many bytes of weights to touch at a time, if that has changed.
    fn touch_ahead(&mut self, bytes: u32) -> Result<()> {
        if bytes != self.touched {
            let mut here = self.shards.iter_mut().filter_map(Place::here_mut);
            here.try_for_each(|shard| shard.touch_ahead(bytes))?;
            self.touched = bytes;
        }
        Ok(())
    }

    /// Makes one vector of all tokens of a sequence.
    fn embed(&mut self, tokens: &[u32], pooling: Pooling) -> Result<()> {
        if self.stages.is_some() {
            return Err(Error::PartOfStages { operation: "make a vector of a text" });
        }
        let (head, mut position) = (self.route.head, 0);
        let width = self.shards[head].here().ok_or_else(not_here)?.hidden_bytes();
        let mut pool = Pool::new(pooling, width / 4);
        for batch in tokens.chunks(self.batch) {
            let (at, rows) = self.eval_batch(batch, position)?;
            self.hand_over(at, head, rows)?;
            self.stage(head, |phases| &mut phases.head, |shard| shard.finish(rows))?;
            let mut hidden = vec![0; rows * width];
            let shard = self.shards[head].here().ok_or_else(not_here)?;
            shard.read_hidden(&mut hidden)?;
            pool.add(&hidden);
            position += u32::try_from(rows).unwrap_or(u32::MAX);
        }
        let mut vector = pool.vector();
        self.stage(
            head,
            |phases| &mut phases.head,
            |shard| {
                vector = shard.dense(std::mem::take(&mut vector))?;
                Ok(())
            },
        )?;
        self.vector = vector;
        Ok(())
    }

    /// What the last evaluation for an embedding has left of its sequence.
    pub(crate) fn vector(&self) -> &[f32] {
        &self.vector
    }

    /// Runs one batch after the other through all blocks; returns the shard that has the hidden
    /// state of the last one, and how many rows that is.
    fn eval_by_batch(&mut self, tokens: &[u32], mut position: u32) -> Result<(usize, usize)> {
        let mut at = (self.route.embed, 0);
        for batch in tokens.chunks(self.batch) {
            at = self.eval_batch(batch, position)?;
            // A batch is no longer than the context.
            position += u32::try_from(batch.len()).unwrap_or(u32::MAX);
        }
        Ok(at)
    }

    /// Runs as many batches as [`PASS`] allows through one block after the other, so that layers
    /// which are paged come in once for all of them. Returns what [`eval_by_batch`] does.
    ///
    /// [`eval_by_batch`]: Self::eval_by_batch
    fn eval_by_block(&mut self, tokens: &[u32], mut position: u32) -> Result<(usize, usize)> {
        let row_bytes = self.here().next().map_or(1, Shard::row_bytes);
        let batches = PASS / (row_bytes * self.batch).max(1);
        let mut at = (self.route.embed, 0);
        for pass in tokens.chunks(self.batch * batches.max(1)) {
            at = self.eval_pass(pass, position)?;
            position += u32::try_from(pass.len()).unwrap_or(u32::MAX);
        }
        Ok(at)
    }

    fn eval_pass(&mut self, tokens: &[u32], position: u32) -> Result<(usize, usize)> {
        let mut batches = Vec::new();
        let mut next = position;
        for tokens in tokens.chunks(self.batch) {
            let embed = self.route.embed;
            self.stage(embed, |phases| &mut phases.embed, |shard| shard.embed(tokens))?;
            let shard = self.shards[embed].here().ok_or_else(not_here)?;
            let (hidden, carried) = shard.rows(tokens.len())?;
            batches.push(Batch { position: next, rows: tokens.len(), hidden, carried });
            next += u32::try_from(tokens.len()).unwrap_or(u32::MAX);
        }
        let mut at = self.route.embed;
        for index in 0..self.route.blocks.len() {
            at = self.route.blocks[index];
            let run = |shard: &mut Shard| shard.run_batches(&mut batches);
            self.stage(at, |phases| &mut phases.blocks, run)?;
        }
        let rows = batches.last().map_or(0, |last| last.rows);
        Ok((at, rows))
    }

    /// Runs tokens through all blocks; returns the shard that has their hidden state, and how
    /// many rows that is.
    fn eval_batch(&mut self, tokens: &[u32], position: u32) -> Result<(usize, usize)> {
        let mut at = self.route.embed;
        self.stage(at, |phases| &mut phases.embed, |shard| shard.embed(tokens))?;
        for index in 0..self.route.blocks.len() {
            let next = self.route.blocks[index];
            self.hand_over(at, next, tokens.len())?;
            let run = |shard: &mut Shard| shard.run(position, tokens.len());
            self.stage(next, |phases| &mut phases.blocks, run)?;
            at = next;
        }
        Ok((at, tokens.len()))
    }

    /// Lets a shard compute a stage, whose time is what it spends neither on layers nor on other
    /// ranks.
    fn stage(
        &mut self,
        shard: usize,
        phase: fn(&mut Phases) -> &mut Duration,
        compute: impl FnOnce(&mut Shard) -> Result<()>,
    ) -> Result<()> {
        // What another stage computes is waited for where its result is needed.
        let Place::Here(shard) = &mut self.shards[shard] else { return Ok(()) };
        let start = Instant::now();
        let (layers, ranks, parts) = (shard.paging_time(), shard.exchange_time(), shard.parts());
        compute(shard)?;
        let (layers, ranks) = (shard.paging_time() - layers, shard.exchange_time() - ranks);
        *phase(&mut self.phases) += start.elapsed().saturating_sub(layers + ranks);
        self.phases.layers += layers;
        self.phases.ranks += ranks;
        self.phases.attention += shard.parts().attention - parts.attention;
        self.phases.feed_forward += shard.parts().feed_forward - parts.feed_forward;
        Ok(())
    }

    /// Copies rows of the hidden state, and what goes with it, from one guest to another, wherever they
    /// are.
    fn hand_over(&mut self, from: usize, to: usize, rows: usize) -> Result<()> {
        let Ok([from, to]) = self.shards.get_disjoint_mut([from, to]) else { return Ok(()) };
        match (from, to, &mut self.stages) {
            (Place::Here(from), Place::Here(to), _) => to.take_rows(from, rows)?,
            (Place::There { owner: from, .. }, Place::There { owner: to, .. }, _) if from == to => {
            }
            (from, to, Some(stages)) => {
                let (owner, hidden) =
                    (from.owner(stages), rows.saturating_mul(stages.hidden_bytes));
                let bytes = hidden.saturating_add(rows.saturating_mul(stages.carried_bytes));
                let fill = |out: &mut [u8]| {
                    let (hidden, carried) = out.split_at_mut(hidden);
                    from.here().map_or(Ok(()), |from| from.read_rows(hidden, carried))
                };
                let way = [owner, to.owner(stages)];
                let shared = timed(&mut self.phases.ranks, || stages.pass(way, bytes, fill))?;
                if let (Place::Here(to), Some(shared)) = (to, shared) {
                    let (hidden, carried) = shared.split_at(hidden);
                    to.write_rows(hidden, carried)?;
                }
            }
            (_, _, None) => return Err(not_here()),
        }
        Ok(())
    }

    /// Gives all stages the logits.
    fn share_logits(&mut self) -> Result<()> {
        let Some(stages) = &mut self.stages else { return Ok(()) };
        let head = &self.shards[self.route.head];
        let (owner, bytes) = (head.owner(stages), stages.logit_bytes);
        let fill = |out: &mut [u8]| head.here().map_or(Ok(()), |head| head.read_logits(out));
        timed(&mut self.phases.ranks, || stages.share(owner, bytes, fill))?;
        Ok(())
    }

    /// The guests that are in this process.
    fn here(&self) -> impl Iterator<Item = &Shard> {
        self.shards.iter().filter_map(Place::here)
    }

    /// Takes over the first `positions` positions of another pipeline of the same plan and rank, some of
    /// them from an image of each guest.
    pub(crate) fn continue_from<'a>(
        &mut self,
        other: &Self,
        positions: u32,
        image_of: impl Fn(usize) -> Option<(&'a Image, &'a ImageRows, u32)>,
        given: &mut Given,
    ) -> Result<()> {
        for (guest, (shard, other)) in self.shards.iter_mut().zip(&other.shards).enumerate() {
            if let (Some(shard), Some(other)) = (shard.here_mut(), other.here()) {
                let more = shard.continue_from(other, positions, image_of(guest))?;
                given.shared += more.shared;
                given.copied += more.copied;
            }
        }
        self.touch.take_over(&other.touch);
        if let (Some(stages), Some(other)) = (&mut self.stages, &other.stages) {
            stages.continue_from(other);
        }
        Ok(())
    }

    /// Lets all guests have that many positions, whose rows were written.
    pub(crate) fn resume(&mut self, positions: u32) -> Result<()> {
        let mut here = self.shards.iter_mut().filter_map(Place::here_mut);
        here.try_for_each(|shard| shard.resume(positions))
    }

    /// The heads whose keys and values are here, each with the guest that has them.
    pub(crate) fn heads(&self) -> impl Iterator<Item = (RowHeader, usize)> {
        let places = self.shards.iter().enumerate();
        let here = places.filter_map(|(guest, place)| Some((guest, place.here()?)));
        here.flat_map(|(guest, shard)| shard.heads().map(move |head| (head, guest)))
    }

    /// How many guests the plan has.
    pub(crate) const fn guests(&self) -> usize {
        self.shards.len()
    }

    /// Whether a guest is in this process.
    pub(crate) fn has(&self, guest: usize) -> bool {
        self.shards.get(guest).is_some_and(|place| place.here().is_some())
    }

    /// The caches of a guest.
    pub(crate) fn caches(&self, guest: usize) -> Result<(&Caches, &dyn Runtime)> {
        self.shards[guest].here().map(Shard::caches).ok_or_else(not_here)
    }

    /// The caches of a guest, to be written.
    pub(crate) fn caches_mut(&mut self, guest: usize) -> Result<(&Caches, &mut dyn Runtime)> {
        self.shards[guest].here_mut().map(Shard::caches_mut).ok_or_else(not_here)
    }

    /// Sets the logits.
    pub(crate) fn write_logits(&mut self, logits: &[u8]) -> Result<()> {
        let head = self.shards[self.route.head].here_mut();
        head.ok_or_else(not_here)?.write_logits(logits)
    }

    /// The logits that were computed last, as bytes.
    pub(crate) fn logits(&self) -> &[u8] {
        match (&self.shards[self.route.head], &self.stages) {
            (Place::Here(shard), _) => shard.logits(),
            (Place::There { .. }, Some(stages)) => stages.shared(),
            (Place::There { .. }, None) => &[],
        }
    }

    /// Adds the statistics of this rank's guests, and sets the profile.
    pub(crate) fn report(&self, into: &mut SessionStats) {
        self.here().for_each(|shard| shard.report(into));
        into.profile = self.profile;
        into.touch_ahead = self.touch.report();
    }

    /// Statistics of the experts that tokens chose, block by block.
    pub(crate) fn expert_stats(&self) -> Vec<ExpertStats> {
        let mut experts: Vec<_> = self.here().flat_map(Shard::expert_stats).collect();
        experts.sort_by_key(|expert| (expert.block, expert.expert));
        experts
    }

    /// Adds the memories of this rank's guests, in the order of the plan.
    pub(crate) fn report_guests(&self, into: &mut Vec<GuestStats>) {
        let rank = self.rank.as_ref().map_or(0, Rank::index);
        let guests = self.shards.iter().enumerate();
        into.extend(guests.filter_map(|(guest, place)| {
            Some(GuestStats { rank, guest, memories: place.here()?.memory_stats() })
        }));
    }

    /// Which of several ranks it is.
    pub(crate) const fn rank(&self) -> Option<&Rank> {
        self.rank.as_ref()
    }
}

/// Whether it is a token that follows others, as when text is generated.
fn is_decoding(tokens: &[u32], position: u32, result: Wanted) -> bool {
    tokens.len() == 1 && position > 0 && result == Wanted::Logits
}

/// What is known about touching weights ahead before anything is computed. Weights of experts count
/// as if a token needed all.
fn known(setup: &Setup<'_>) -> Known {
    let (layout, plan) = (setup.layout, &setup.placed.plan);
    let is_needed = |layer: &&PlannedLayer| {
        layout.is_tied() || layout.part(layer.source.id) != Some(Part::Embedding)
    };
    let exports = setup.module.exports();
    Known {
        offered: exports.iter().any(|it| it.name == export::TOUCH_AHEAD),
        paged: plan.memories.iter().any(|memory| memory.paged),
        weights: plan.layers.iter().filter(is_needed).map(|layer| layer.source.bytes).sum(),
    }
}

/// What only a process that has all guests does.
fn not_here() -> Error {
    Error::Plan { reason: "a guest of it is in another process".into() }
}

impl Route {
    /// Finds the way, and makes sure that each block is on it once, in order.
    fn new(layout: &Layout, plan: &Plan, shards: &[Place]) -> Result<Self> {
        let holder = |part: Part| {
            let layer = plan.layers.iter().find(|it| layout.part(it.source.id) == Some(part));
            layer.and_then(|layer| plan.guest_of(layer)).map(|guest| guest as usize)
        };
        let embed = holder(Part::Embedding);
        // A network without an output norm may have nothing else there.
        let output = holder(Part::Output).or(embed.filter(|_| layout.is_tied()));
        let (Some(embed), Some(head)) = (embed, output) else {
            return Err(Error::Plan { reason: "it has no embedding or no output".into() });
        };
        if layout.is_tied() && embed != head {
            let reason = "the output is tied to the embedding, but they are in two guests";
            return Err(Error::Plan { reason: reason.into() });
        }
        let mut blocks: Vec<_> =
            (0..shards.len()).filter(|shard| !shards[*shard].blocks().is_empty()).collect();
        blocks.sort_by_key(|shard| shards[*shard].blocks().start);
        let mut next = 0;
        for shard in &blocks {
            if shards[*shard].blocks().start != next {
                return Err(Error::Plan { reason: format!("block {next} is nowhere, or twice") });
            }
            next = shards[*shard].blocks().end;
        }
        Ok(Self { embed, blocks, head })
    }
}

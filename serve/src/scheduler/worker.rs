//! The thread that evaluates.

use std::io::Read;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, PoisonError};
use std::time::Instant;

use polychord_session::{
    Batch, Error as SessionError, ErrorKind, Finish, ImageRoom, Model, Result as SessionResult,
    Session, SessionOptions, Transformer,
};

use super::job::{Event, Usage};
use super::options::SchedulerOptions;
use super::queue::Waiting;
use super::shared::{Shared, gauge};
use super::shelf::Shelf;
use super::slot::{Candidate, Place, Slot, WORTH_A_COPY, choose};
use super::turn::{Turn, common};
use crate::error::Result;

/// The thread that evaluates: its sessions, and what they compute.
pub(super) struct Worker {
    shared: Arc<Shared>,
    transformer: Arc<Transformer>,
    model: Model,
    options: SessionOptions,
    slots: Vec<Slot>,
    /// Jobs whose beginning is being computed for another one.
    held: Vec<Waiting>,
    parallel: usize,
    piece: usize,
    context: u32,
    /// Answers that have ended.
    ended: u64,
    /// Of the slots with a prompt, the one that comes next.
    next_prompt: usize,
    /// Conversations that wait without a session, if they are kept.
    shelf: Option<Shelf>,
}

impl Worker {
    /// Starts the first session.
    pub(super) fn new(
        shared: Arc<Shared>,
        transformer: Arc<Transformer>,
        model: &Model,
        session: &SessionOptions,
        options: &SchedulerOptions,
    ) -> Result<Self> {
        if shared.receipts.is_some() {
            // Once, for the digests that all receipts have.
            model.digests()?;
        }
        // What is left of the memory that is set aside: known once there is a session.
        let room = ImageRoom::new(0);
        let session = session.clone().fork_room(room.clone());
        let first = transformer.start(model, &session)?;
        let (context, needed) = (first.context(), bytes_beside_weights(&first));
        let parallel = options.parallel.clamp(1, options.sessions_that_fit(needed, context)?);
        room.set_most(options.left_by(parallel, needed));
        let worker = Self {
            shared,
            transformer,
            model: model.clone(),
            options: session,
            slots: vec![Slot::new(first)],
            held: Vec::new(),
            parallel,
            piece: options.piece.max(1),
            context,
            ended: 0,
            next_prompt: 0,
            shelf: Shelf::new(model, options)?,
        };
        worker.count_sessions();
        Ok(worker)
    }

    pub(super) const fn context(&self) -> u32 {
        self.context
    }

    /// Evaluates until the scheduler ends.
    pub(super) fn run(mut self) {
        while let Some(begun) = self.wait() {
            let held = std::mem::take(&mut self.held);
            held.into_iter().chain(begun).for_each(|waiting| self.place(waiting));
            let start = Instant::now();
            self.prompts();
            self.tokens();
            let metrics = &self.shared.metrics;
            metrics.busy_seconds.inc_by(start.elapsed().as_secs_f64());
            let seen = self.slots.iter().map(|slot| slot.session.tokens().len()).sum();
            metrics.cached_now.set(gauge(seen));
        }
    }

    /// Waits for something to do, and takes the jobs for which there is a session; none if the
    /// scheduler ends.
    fn wait(&mut self) -> Option<Vec<Waiting>> {
        let mut begun = Vec::new();
        let busy = self.slots.iter().filter(|slot| slot.turn.is_some()).count() + self.held.len();
        let shared = self.shared.clone();
        let mut state = shared.state();
        loop {
            if state.stop {
                state
                    .queue
                    .remove_if(|_| true)
                    .iter()
                    .for_each(|it| end_waiting(it, Finish::Cancelled));
                state.active = 0;
                drop(state);
                self.end_all();
                shared.changed.notify_all();
                return None;
            }
            let unwanted = |it: &Waiting| it.events.is_closed() || is_late(it);
            state.queue.remove_if(unwanted).iter().for_each(|it| end_waiting(it, Finish::Deadline));
            while busy + begun.len() < self.parallel
                && let Some(next) = state.queue.pop()
            {
                begun.push(next);
            }
            state.active = busy + begun.len();
            shared.metrics.waiting.set(gauge(state.queue.len()));
            shared.metrics.active.set(gauge(state.active));
            shared.changed.notify_all();
            if state.active > 0 {
                return Some(begun);
            }
            state = shared.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Gives a job to a session, unless it waits for what another one has in common with it.
    fn place(&mut self, waiting: Waiting) {
        if waiting.events.is_closed() || is_late(&waiting) {
            return end_waiting(&waiting, Finish::Deadline);
        }
        let prompt = &waiting.job.prompt;
        if self.is_coming(prompt) {
            return self.held.push(waiting);
        }
        let index = match self.unshelve(prompt) {
            Some(index) => index,
            None => match self.choose_place(prompt) {
                Ok(index) => index,
                Err(error) => return self.refuse(&waiting, &error),
            },
        };
        let slot = &mut self.slots[index];
        match Turn::begin(waiting, &mut slot.session, self.shared.receipts.is_some()) {
            Ok(turn) => {
                let metrics = &self.shared.metrics;
                metrics.prompt_tokens.inc_by(turn.prompt().len() as u64);
                metrics.cached_tokens.inc_by(turn.cached() as u64);
                slot.turn = Some(turn);
            }
            Err(refused) => {
                let (waiting, error) = *refused;
                self.refuse(&waiting, &error);
            }
        }
    }

    /// Whether a prompt that is being computed has more in common with this one than any session has seen: then it
    /// is computed once, and shared.
    fn is_coming(&self, prompt: &[u32]) -> bool {
        let seen = self.slots.iter().map(|slot| common(slot.session.tokens(), prompt)).max();
        let coming = self.slots.iter().filter_map(|slot| slot.turn.as_ref());
        let coming = coming.map(|turn| common(turn.prompt(), prompt)).max().unwrap_or(0);
        coming >= WORTH_A_COPY && coming > seen.unwrap_or(0)
    }

    /// The slot of a session that has the most of a prompt, or can be given to it.
    fn choose_place(&mut self, prompt: &[u32]) -> SessionResult<usize> {
        let place = choose(&self.candidates(prompt), self.parallel);
        tracing::debug!(?place, tokens = prompt.len(), "placed");
        // Where there is no room for a session more, one that is idle does.
        let index = self
            .make_place(&place, prompt)
            .or_else(|error| self.slots.iter().position(|slot| slot.turn.is_none()).ok_or(error))?;
        let tokens = self.slots[index].session.tokens();
        if common(tokens, prompt) < tokens.len().div_ceil(2) {
            self.shelve(index);
        }
        Ok(index)
    }

    /// A slot for a conversation that waited without a session, and that no session knows better.
    fn unshelve(&mut self, prompt: &[u32]) -> Option<usize> {
        let mut candidates = self.candidates(prompt);
        let known = candidates.iter().map(|it| it.common).max().unwrap_or(0);
        let kept = self.shelf.as_mut()?.take(prompt, known, &self.shared.metrics)?;
        // Whichever gives way, nothing of it is wanted.
        candidates.iter_mut().for_each(|it| it.common = 0);
        if let Place::Idle(index) = choose(&candidates, self.parallel) {
            // Before the other is started, so that there are never more than fit.
            self.shelve(index);
            self.slots.remove(index);
        }
        let Self { transformer, model, options, shared, .. } = self;
        let restore = |from: &mut dyn Read| Ok(transformer.restore(model, from, options)?.session);
        match kept.restore(restore, &shared.metrics) {
            Ok(session) => self.slots.push(Slot::new(session)),
            Err(error) => {
                tracing::warn!(%error, "a conversation that waited is lost");
                self.count_sessions();
                return None;
            }
        }
        self.count_sessions();
        Some(self.slots.len() - 1)
    }

    fn candidates(&self, prompt: &[u32]) -> Vec<Candidate> {
        self.slots.iter().map(|slot| slot.candidate(prompt)).collect()
    }

    /// Keeps the conversation of a slot that is to have another one.
    fn shelve(&mut self, index: usize) {
        let Self { shelf: Some(shelf), slots, shared, .. } = self else { return };
        shelf.put(&slots[index].session, &shared.metrics);
    }

    /// The index of a slot for a job.
    fn make_place(&mut self, place: &Place, prompt: &[u32]) -> SessionResult<usize> {
        let session = match place {
            Place::Idle(index) => return Ok(*index),
            Place::Fork { from, instead_of: None } => fork(&self.slots[*from].session, prompt)?,
            Place::Fork { from, instead_of: Some(index) } => {
                // Before the copy is started, so that there are never more than fit.
                self.shelve(*index);
                self.slots.remove(*index);
                let from = *from - usize::from(index < from);
                fork(&self.slots[from].session, prompt)?
            }
            Place::New => self.transformer.start(&self.model, &self.options)?,
        };
        self.slots.push(Slot::new(session));
        self.count_sessions();
        Ok(self.slots.len() - 1)
    }

    fn refuse(&self, waiting: &Waiting, error: &SessionError) {
        self.shared.metrics.faults.inc();
        let event = Event::Failed { kind: error.kind(), message: error.to_string() };
        _ = waiting.events.send(event);
    }

    /// Evaluates a piece of one prompt. Those that have more than a token left come one after
    /// another.
    fn prompts(&mut self) {
        let count = self.slots.len();
        let order = (0..count).map(|index| (self.next_prompt + index) % count);
        let is_prompt = |index: &usize| {
            let Slot { session, turn, .. } = &self.slots[*index];
            turn.as_ref().is_some_and(|turn| turn.rest(session).len() > 1)
        };
        if let Some(index) = order.into_iter().find(is_prompt) {
            self.next_prompt = index + 1;
            self.step(index);
        }
    }

    /// Gives all others their next token, with as few passes over the weights as possible.
    fn tokens(&mut self) {
        self.end_interrupted();
        let is_at_a_token = |index: &usize| {
            let Slot { session, turn, .. } = &self.slots[*index];
            turn.as_ref().is_some_and(|turn| turn.rest(session).len() == 1)
        };
        // From the end: a slot that fails is taken out.
        let ready: Vec<usize> = (0..self.slots.len()).rev().filter(is_at_a_token).collect();
        if ready.is_empty() {
            return;
        }
        let passes = if let Some(batch) = self.step_together() {
            ready.iter().for_each(|index| self.choose(*index));
            batch.passes
        } else {
            // They are as before, and one of them is to blame: the others go on.
            ready.iter().for_each(|index| self.step(*index));
            ready.len()
        };
        for _ in 0..passes {
            self.shared.metrics.batch.observe(ready.len() as f64 / passes as f64);
        }
    }

    /// Evaluates the next token of all that are at one; none if that fails.
    fn step_together(&mut self) -> Option<Batch> {
        let mut members = Vec::new();
        for slot in &mut self.slots {
            let Slot { session, turn: Some(turn), .. } = slot else { continue };
            if let [token] = turn.rest(session) {
                members.push((session, *token));
            }
        }
        match catch_unwind(AssertUnwindSafe(|| Batch::step(&mut members))) {
            Ok(Ok(batch)) => Some(batch),
            Ok(Err(error)) => {
                tracing::debug!(%error, "a step of several answers failed");
                None
            }
            Err(_) => None,
        }
    }

    /// Ends answers that are late, or that nothing reads any more.
    fn end_interrupted(&mut self) {
        for index in 0..self.slots.len() {
            if let Some(finish) = self.slots[index].turn.as_ref().and_then(Turn::interrupted) {
                self.end(index, finish);
            }
        }
    }

    /// Chooses a token after the last one that a session has seen.
    fn choose(&mut self, index: usize) {
        let (model, context, metrics) = (&self.model, self.context, &self.shared.metrics);
        let Slot { session, turn: Some(turn), .. } = &mut self.slots[index] else { return };
        let choose = || turn.choose(model, session.logits(), context, metrics);
        let done = catch_unwind(AssertUnwindSafe(choose));
        self.settle(index, done);
    }

    /// Evaluates a piece of what a session has not seen, and chooses a token after the last.
    fn step(&mut self, index: usize) {
        let (model, context, piece) = (&self.model, self.context, self.piece);
        let metrics = &self.shared.metrics;
        let Slot { session, turn: Some(turn), .. } = &mut self.slots[index] else { return };
        let done = catch_unwind(AssertUnwindSafe(|| {
            if let Some(finish) = turn.interrupted() {
                return Ok(Some(finish));
            }
            let rest = turn.rest(session);
            if rest.len() > piece {
                session.extend(&rest[..piece])?;
                return Ok(None);
            }
            let logits = session.eval(rest)?;
            turn.choose(model, logits, context, metrics)
        }));
        self.settle(index, done);
    }

    /// Ends an answer if there is a reason to.
    fn settle(&mut self, index: usize, done: std::thread::Result<SessionResult<Option<Finish>>>) {
        match done {
            Ok(Ok(None)) => {}
            Ok(Ok(Some(finish))) => self.end(index, finish),
            Ok(Err(error)) => self.fail(index, error.kind(), error.to_string()),
            Err(_) => {
                let message = "a bug: the computation panicked, see the log".to_owned();
                self.fail(index, ErrorKind::Internal, message);
            }
        }
    }

    fn end(&mut self, index: usize, finish: Finish) {
        let slot = &mut self.slots[index];
        let Some(mut turn) = slot.turn.take() else { return };
        self.ended += 1;
        slot.used = self.ended;
        self.shared.metrics.ended(&finish.to_string());
        turn.end(finish, self.shared.receipts.as_ref());
        let seconds = turn.since().elapsed().as_secs_f64();
        let mut state = self.shared.state();
        state.mean_seconds += (seconds - state.mean_seconds) / 8.0;
    }

    /// Ends an answer by an error, and with it a session that cannot go on: nothing else.
    fn fail(&mut self, index: usize, kind: ErrorKind, message: String) {
        tracing::warn!(kind = kind.name(), message, "an answer failed");
        self.shared.metrics.faults.inc();
        if let Some(turn) = self.slots[index].turn.take() {
            turn.fail(kind, message);
        }
        // After lateness and refusals it is as it was before.
        let can_go_on = matches!(kind, ErrorKind::Stopped | ErrorKind::InvalidArgument);
        if !can_go_on {
            self.slots.remove(index);
            self.count_sessions();
        }
    }

    fn end_all(&mut self) {
        self.held.drain(..).for_each(|it| end_waiting(&it, Finish::Cancelled));
        for index in 0..self.slots.len() {
            self.end(index, Finish::Cancelled);
        }
    }

    fn count_sessions(&self) {
        let metrics = &self.shared.metrics;
        metrics.sessions.set(gauge(self.slots.len()));
        let bytes: u64 = self.slots.iter().map(|slot| bytes_beside_weights(&slot.session)).sum();
        metrics.session_bytes.set(i64::try_from(bytes).unwrap_or(i64::MAX));
        let reports = self.slots.iter().map(|slot| slot.session.report());
        let (caches, shared) = reports.fold((0, 0), |(caches, shared), report| {
            (caches + report.cache_bytes, shared + report.shared_bytes)
        });
        metrics.cache_bytes.set(i64::try_from(caches).unwrap_or(i64::MAX));
        metrics.shared_bytes.set(i64::try_from(shared).unwrap_or(i64::MAX));
        let images = self.options.fork_room.used();
        metrics.image_bytes.set(i64::try_from(images).unwrap_or(i64::MAX));
    }
}

/// A second session with what the first has seen of a prompt, which they share.
fn fork(session: &Session, prompt: &[u32]) -> SessionResult<Session> {
    let seen = common(session.tokens(), prompt);
    // No more than the context.
    session.fork_at(u32::try_from(seen).unwrap_or(u32::MAX))
}

/// Most bytes of a session's guests, without weights that are mapped and so shared.
pub(crate) fn bytes_beside_weights(session: &Session) -> u64 {
    let needs = session.placed().guest_needs.iter().sum::<u64>();
    let load = session.load_report();
    let shared = if load.copied == 0 { load.bytes } else { 0 };
    needs.saturating_sub(shared).saturating_mul(session.ranks() as u64)
}

fn is_late(waiting: &Waiting) -> bool {
    waiting.job.deadline.is_some_and(|at| Instant::now() >= at)
}

fn end_waiting(waiting: &Waiting, finish: Finish) {
    _ = waiting.events.send(Event::End { finish, usage: Usage::default(), receipt: None });
}

//! Several ranks that compute one network: each a thread with guests of its own.

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};

use polychord_runtime_api::{Capabilities, MemoryStats, PagerStats, Rank, Requirements, Stats};

use crate::error::{Error, Result};
use crate::model::Model;
use crate::pipeline::Pipeline;
use crate::profile::Profile;
use crate::session::LoadReport;
use crate::shard::Setup;

/// How many threads compute a network together.
///
/// Each has guests of its own, computes a part of the rows of every product, and has the cache of
/// its own heads. Mapped weights are the same pages for all ranks; copied ones are there once for
/// each, and a resident budget counts for each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Ranks {
    /// As many as the process may use processors at once, but no more than the network has heads of
    /// keys and values, and one if the engine does not run guests in several threads.
    Auto,
    /// So many, up to the number of heads.
    Exactly(u32),
}

impl Default for Ranks {
    fn default() -> Self {
        Self::Exactly(1)
    }
}

impl Ranks {
    /// The number for a model on an engine.
    pub(crate) fn of(self, model: &Model, engine: &Capabilities) -> Result<usize> {
        let config = model.config();
        let count = match self {
            Self::Auto if !engine.threads => 1,
            Self::Auto => {
                let processors = thread::available_parallelism().map_or(1, usize::from);
                u32::try_from(processors.min(Rank::MAX)).unwrap_or(u32::MAX).min(config.kv_heads)
            }
            Self::Exactly(count) => count,
        };
        let limit = config.heads.min(u32::try_from(Rank::MAX).unwrap_or(u32::MAX));
        if count == 0 || count > limit {
            return Err(Error::Ranks { asked: count, limit });
        }
        if count > 1 {
            Requirements::NONE.threads().check(engine)?;
        }
        Ok(count as usize)
    }
}

/// All ranks of a session. The first one computes in the thread that asks.
pub(crate) struct Team {
    // Dropped first: whoever waits for it then stops.
    first: Pipeline,
    others: Vec<Worker>,
}

/// A rank in a thread of its own.
struct Worker {
    desk: Arc<Desk>,
    thread: Option<JoinHandle<()>>,
}

/// What a worker shares with whom it works for.
struct Desk {
    pipeline: Mutex<Pipeline>,
    order: Mutex<Order>,
    changed: Condvar,
}

/// What a worker is to do.
struct Order {
    tokens: Vec<u32>,
    position: u32,
    state: State,
}

enum State {
    /// Nothing; this is how the last order ended.
    Idle(Result<()>),
    /// To compute what follows the tokens.
    Eval,
    /// To end.
    Quit,
}

impl Team {
    /// Starts all guests of all ranks, and the threads.
    pub(crate) fn start(
        setup: &Setup<'_>,
        ranks: usize,
        report: &mut LoadReport,
        progress: &mut dyn FnMut(u64),
    ) -> Result<Self> {
        if ranks == 1 {
            let first = Pipeline::start(setup, report, progress)?;
            return Ok(Self { first, others: Vec::new() });
        }
        let group = Rank::group(ranks)?;
        let mut pipelines = Vec::with_capacity(ranks);
        for rank in &group {
            let setup = Setup { rank: Some(rank), ..*setup };
            // What all have loaded is shown as a part of what one loads.
            let progress = &mut |bytes: u64| progress(bytes / ranks as u64);
            pipelines.push(Pipeline::start(&setup, report, progress)?);
        }
        let mut pipelines = pipelines.into_iter();
        let Some(first) = pipelines.next() else {
            return Err(Error::Ranks { asked: 0, limit: setup.model.config().heads });
        };
        let mut others = Vec::with_capacity(ranks - 1);
        for pipeline in pipelines {
            others.push(Worker::start(pipeline)?);
        }
        Ok(Self { first, others })
    }

    /// Computes what follows the last of some tokens. If ranks fail, the error is that of the
    /// first one.
    pub(crate) fn eval(&mut self, tokens: &[u32], position: u32) -> Result<()> {
        for worker in &self.others {
            worker.begin(tokens, position);
        }
        // A panic here belongs to the caller, but no rank may wait for this one.
        let done = catch_unwind(AssertUnwindSafe(|| self.first.eval(tokens, position)));
        // If it succeeds, the others do.
        if let Ok(Ok(())) = done {
            return Ok(());
        }
        let Some(rank) = self.first.rank() else {
            return done.unwrap_or_else(|panic| resume_unwind(panic));
        };
        rank.stop("it has not computed its part");
        let failed = rank.stopped_by().unwrap_or_default();
        let mut first_error = None;
        for (index, worker) in self.others.iter().enumerate() {
            if let (Err(error), true) = (worker.finish(), index + 1 == failed) {
                first_error = Some(error);
            }
        }
        if let Err(error) = rank.renew() {
            tracing::warn!(%error, "ranks cannot begin anew");
        }
        let done = done.unwrap_or_else(|panic| resume_unwind(panic));
        first_error.map_or(done, Err)
    }

    /// The logits that were computed last, as bytes.
    pub(crate) fn logits(&self) -> &[u8] {
        self.first.logits()
    }

    /// How many ranks there are.
    pub(crate) const fn ranks(&self) -> usize {
        1 + self.others.len()
    }

    /// What the memories of all guests were used for.
    pub(crate) fn stats(&self) -> Stats {
        let others = self.others.iter().map(|worker| worker.desk.pipeline().stats());
        others.chain([self.first.stats()]).sum()
    }

    /// What became of the memories of each guest, rank by rank.
    pub(crate) fn memory_stats(&self) -> Vec<Vec<MemoryStats>> {
        let mut guests: Vec<_> = self.first.memory_stats().collect();
        for worker in &self.others {
            guests.extend(worker.desk.pipeline().memory_stats());
        }
        guests
    }

    /// How layers took turns, if they do.
    pub(crate) fn pager_stats(&self) -> Option<PagerStats> {
        let others = self.others.iter().map(|worker| worker.desk.pipeline().pager_stats());
        others.chain([self.first.pager_stats()]).flatten().reduce(|sum, it| sum + it)
    }

    /// Where the time of the first rank went.
    pub(crate) const fn profile(&self) -> Profile {
        self.first.profile()
    }

    /// Name of the engine.
    pub(crate) fn engine(&self) -> Option<&'static str> {
        self.first.engine()
    }
}

impl Worker {
    fn start(pipeline: Pipeline) -> Result<Self> {
        let rank = pipeline.rank().map_or(0, Rank::index);
        let order = Order { tokens: Vec::new(), position: 0, state: State::Idle(Ok(())) };
        let desk = Desk {
            pipeline: Mutex::new(pipeline),
            order: Mutex::new(order),
            changed: Condvar::new(),
        };
        let desk = Arc::new(desk);
        let thread = thread::Builder::new().name(format!("polychord-rank-{rank}")).spawn({
            let desk = desk.clone();
            move || desk.work()
        });
        let thread = thread.map_err(|source| Error::Thread { rank, source })?;
        Ok(Self { desk, thread: Some(thread) })
    }

    /// Lets the worker compute.
    fn begin(&self, tokens: &[u32], position: u32) {
        let mut order = self.desk.wait_while(|state| matches!(state, State::Eval));
        order.tokens.clear();
        order.tokens.extend_from_slice(tokens);
        order.position = position;
        order.state = State::Eval;
        self.desk.changed.notify_all();
    }

    /// Waits until the worker has done so.
    fn finish(&self) -> Result<()> {
        let mut order = self.desk.wait_while(|state| matches!(state, State::Eval));
        match &mut order.state {
            State::Idle(result) => std::mem::replace(result, Ok(())),
            State::Eval | State::Quit => Ok(()),
        }
    }
}

impl Desk {
    /// Does what is ordered, until it is to end.
    fn work(&self) {
        let mut order = self.order();
        loop {
            while matches!(order.state, State::Idle(_)) {
                order = self.changed.wait(order).unwrap_or_else(PoisonError::into_inner);
            }
            if matches!(order.state, State::Quit) {
                return;
            }
            // Nobody changes the order meanwhile: whoever wants to waits for the result.
            let (tokens, position) = (std::mem::take(&mut order.tokens), order.position);
            drop(order);
            let result = self.eval(&tokens, position);
            order = self.order();
            order.tokens = tokens;
            if matches!(order.state, State::Eval) {
                order.state = State::Idle(result);
            }
            self.changed.notify_all();
        }
    }

    fn eval(&self, tokens: &[u32], position: u32) -> Result<()> {
        let mut pipeline = self.pipeline();
        let result = catch_unwind(AssertUnwindSafe(|| pipeline.eval(tokens, position)));
        result.unwrap_or_else(|_| {
            // The others must not wait for this rank; the message of the panic was printed.
            if let Some(rank) = pipeline.rank() {
                rank.stop("it has panicked, which is a bug of Polychord or of the engine");
                rank.finish()?;
            }
            Ok(())
        })
    }

    fn wait_while(&self, condition: impl Fn(&State) -> bool) -> MutexGuard<'_, Order> {
        self.changed
            .wait_while(self.order(), |order| condition(&order.state))
            .unwrap_or_else(PoisonError::into_inner)
    }

    fn order(&self) -> MutexGuard<'_, Order> {
        self.order.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn pipeline(&self) -> MutexGuard<'_, Pipeline> {
        self.pipeline.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        self.desk.order().state = State::Quit;
        self.desk.changed.notify_all();
        if let Some(thread) = self.thread.take() {
            // It does not panic; and if it did, there would be nothing left to do.
            _ = thread.join();
        }
    }
}

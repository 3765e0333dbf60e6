//! Several ranks that compute one network, each in a thread with guests of its own.

use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};

use polychord_receipts::snapshot::RowHeader;
use polychord_runtime_api::{Rank, Runtime};

use crate::caches::{Caches, Given};
use crate::error::{Error, Result};
use crate::pipeline::{Duty, Pipeline, Wanted};
use crate::prefix;
use crate::setup::Setup;
use crate::stats::expert_stats::ExpertStats;
use crate::stats::load_report::LoadReport;
use crate::stats::session_stats::{GuestStats, SessionStats};

/// The ranks of a session that are in this process. The first one computes in the caller's
/// thread.
pub(crate) struct RankPool {
    // Dropped first: ranks that wait for it then stop.
    first: Pipeline,
    /// None if this process has one rank.
    others: Vec<Worker>,
}

/// Where keys or values of a head are: which of the ranks that are here has them, and its guest.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Place {
    pub(crate) head: RowHeader,
    rank: usize,
    guest: usize,
}

/// A rank in a thread of its own.
struct Worker {
    mailbox: Arc<Mailbox>,
    thread: Option<JoinHandle<()>>,
}

/// State shared by a rank's thread and the session.
struct Mailbox {
    pipeline: Mutex<Pipeline>,
    job: Mutex<Job>,
    changed: Condvar,
}

/// What a rank's thread is to do.
struct Job {
    tokens: Vec<u32>,
    /// Of the first token, or of each if they are of several sequences.
    positions: Vec<u32>,
    work: Work,
    state: State,
}

/// What is to be computed of tokens.
enum Work {
    Eval(Wanted),
    /// A token of each of several sequences: the same rank of the others.
    Step(Vec<Arc<Mailbox>>),
    /// What a stage does with what has come for it.
    Pass(Duty, Vec<u8>),
}

enum State {
    /// Nothing; this is how the last job ended.
    Idle(Result<()>),
    /// To compute the tokens.
    Eval,
    /// To end.
    Quit,
}

impl RankPool {
    /// Starts all guests of all ranks that are here, and the threads; a rank in the setup is what this
    /// process is among others.
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
        let group = setup
            .rank
            .map_or_else(|| Rank::group(ranks), |process| Rank::within(process, ranks))?;
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

    /// Computes tokens. If ranks fail, the error is that of the first one.
    pub(crate) fn eval(&mut self, tokens: &[u32], position: u32, result: Wanted) -> Result<()> {
        for worker in &self.others {
            worker.begin(tokens, &[position], Work::Eval(result));
        }
        self.compute(|first| first.eval(tokens, position, result))
    }

    /// Computes a stage's part of what goes through all of them ([`Pipeline::pass`]). All ranks begin with
    /// the rows that have come, and the first one's are what goes on.
    pub(crate) fn pass(
        &mut self,
        duty: Duty,
        tokens: &[u32],
        position: u32,
        rows: &mut Vec<u8>,
    ) -> Result<()> {
        for worker in &self.others {
            worker.begin(tokens, &[position], Work::Pass(duty, rows.clone()));
        }
        self.compute(|first| first.pass(duty, tokens, position, rows))
    }

    /// The first rank that is here.
    pub(crate) const fn first(&self) -> &Pipeline {
        &self.first
    }

    /// Sets logits that another stage has computed.
    pub(crate) fn set_shared(&mut self, logits: &[u8]) -> Result<()> {
        self.first.set_shared(logits)
    }

    /// Whether [`step`](Self::step) can take a token of that one's sequence.
    pub(crate) fn steps_with(&self, other: &Self) -> bool {
        self.first.steps_with(&other.first) && self.others.len() == other.others.len()
    }

    /// Computes a token of this pool's sequence and one of each other's, at these positions. If ranks fail,
    /// the error is that of the first one.
    pub(crate) fn step(
        &mut self,
        others: &mut [&mut Self],
        tokens: &[u32],
        positions: &[u32],
    ) -> Result<()> {
        for (index, worker) in self.others.iter().enumerate() {
            let same_rank = others.iter().filter_map(|other| other.others.get(index));
            let mailboxes = same_rank.map(|worker| worker.mailbox.clone()).collect();
            worker.begin(tokens, positions, Work::Step(mailboxes));
        }
        let mut firsts: Vec<_> = others.iter_mut().map(|other| &mut other.first).collect();
        self.compute(|first| first.step(&mut firsts, tokens, positions))
    }

    /// Computes the first rank's part of what the others have begun.
    fn compute(&mut self, compute: impl FnOnce(&mut Pipeline) -> Result<()>) -> Result<()> {
        // A panic here belongs to the caller, but no rank may wait for this one.
        let done = catch_unwind(AssertUnwindSafe(|| compute(&mut self.first)));
        // If it succeeds, the others do.
        if let Ok(Ok(())) = done {
            return Ok(());
        }
        let Some(rank) = self.first.rank().filter(|_| !self.others.is_empty()) else {
            // Alone, or one of a group that the caller renews: others may still be in a call.
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

    /// Takes over the first `positions` positions of a pool that was started in the same way, by
    /// copying, and by showing what it `wanted` of a prefix: nothing is computed, and no rank waits for
    /// another.
    pub(crate) fn continue_from(
        &mut self,
        other: &Self,
        positions: u32,
        wanted: &prefix::Wanted,
    ) -> Result<Given> {
        let mut given = Given::default();
        for rank in 0..=self.others.len().min(other.others.len()) {
            let image_of = |guest| {
                let (prefix, valid) = wanted.as_ref()?;
                let (image, rows) = prefix.of_guest(rank, guest)?;
                Some((image, rows, *valid))
            };
            self.with_mut(rank, |pipeline| {
                other.with(rank, |other| {
                    pipeline.continue_from(other, positions, image_of, &mut given)
                })
            })?;
        }
        Ok(given)
    }

    /// Does something with the caches of each guest that is here, by rank and number.
    pub(crate) fn each_guest(
        &self,
        mut what: impl FnMut(usize, usize, &Caches, &dyn Runtime) -> Result<()>,
    ) -> Result<()> {
        (0..=self.others.len()).try_for_each(|rank| {
            self.with(rank, |pipeline| {
                let mut here = (0..pipeline.guests()).filter(|guest| pipeline.has(*guest));
                here.try_for_each(|guest| {
                    let (caches, runtime) = pipeline.caches(guest)?;
                    what(rank, guest, caches, runtime)
                })
            })
        })
    }

    /// Does something with the caches of each guest that is here, which may change.
    pub(crate) fn each_guest_mut(
        &mut self,
        mut what: impl FnMut(usize, usize, &Caches, &mut dyn Runtime) -> Result<()>,
    ) -> Result<()> {
        (0..=self.others.len()).try_for_each(|rank| {
            self.with_mut(rank, |pipeline| {
                (0..pipeline.guests()).try_for_each(|guest| {
                    if !pipeline.has(guest) {
                        return Ok(());
                    }
                    let (caches, runtime) = pipeline.caches_mut(guest)?;
                    what(rank, guest, caches, runtime)
                })
            })
        })
    }

    /// All heads that are here, in the order of their names, which depends on no placement.
    pub(crate) fn places(&self) -> Vec<Place> {
        let mut places = Vec::new();
        for rank in 0..=self.others.len() {
            self.with(rank, |pipeline| {
                places.extend(pipeline.heads().map(|(head, guest)| Place { head, rank, guest }));
            });
        }
        places.sort_unstable();
        places
    }

    /// Hands what a head has kept of some positions to `take`, in pieces that follow each other.
    pub(crate) fn read_rows<E: From<Error>>(
        &self,
        place: Place,
        positions: Range<u32>,
        take: &mut dyn FnMut(&[u8]) -> Result<(), E>,
    ) -> Result<(), E> {
        self.with(place.rank, |pipeline| {
            let (caches, runtime) = pipeline.caches(place.guest)?;
            caches.read(runtime, place.head, positions, take)
        })
    }

    /// Writes a part of what a head has of some positions: from byte `at` of all of it on.
    pub(crate) fn write_rows(
        &mut self,
        place: Place,
        positions: Range<u32>,
        at: u64,
        bytes: &[u8],
    ) -> Result<()> {
        self.with_mut(place.rank, |pipeline| {
            let (caches, runtime) = pipeline.caches_mut(place.guest)?;
            caches.write(runtime, place.head, positions, at, bytes)
        })
    }

    /// Lets all guests have that many positions, whose rows were written.
    pub(crate) fn resume(&mut self, positions: u32) -> Result<()> {
        (0..=self.others.len())
            .try_for_each(|rank| self.with_mut(rank, |pipeline| pipeline.resume(positions)))
    }

    /// Sets the logits.
    pub(crate) fn write_logits(&mut self, logits: &[u8]) -> Result<()> {
        self.first.write_logits(logits)
    }

    /// Does something with one of the ranks that are here.
    fn with<R>(&self, rank: usize, what: impl FnOnce(&Pipeline) -> R) -> R {
        match rank.checked_sub(1) {
            None => what(&self.first),
            Some(other) => what(&self.others[other].mailbox.pipeline()),
        }
    }

    fn with_mut<R>(&mut self, rank: usize, what: impl FnOnce(&mut Pipeline) -> R) -> R {
        match rank.checked_sub(1) {
            None => what(&mut self.first),
            Some(other) => what(&mut self.others[other].mailbox.pipeline()),
        }
    }

    /// Which of several ranks the first one here is.
    pub(crate) fn first_rank(&self) -> usize {
        self.first.rank().map_or(0, Rank::index)
    }

    /// How many ranks are here.
    pub(crate) fn ranks_here(&self) -> usize {
        1 + self.others.len()
    }

    /// The logits that were computed last, as bytes.
    pub(crate) fn logits(&self) -> &[u8] {
        self.first.logits()
    }

    /// What the last evaluation for an embedding has left of its sequence.
    pub(crate) fn vector(&self) -> &[f32] {
        self.first.vector()
    }

    /// Statistics of the experts that tokens chose, as the first rank saw it.
    pub(crate) fn expert_stats(&self) -> Vec<ExpertStats> {
        self.first.expert_stats()
    }

    /// How many ranks there are, in this process or elsewhere.
    pub(crate) fn ranks(&self) -> usize {
        self.first.rank().map_or(1, Rank::count)
    }

    /// Adds the statistics of all ranks that are here; the profile is the first one's.
    pub(crate) fn report(&self, into: &mut SessionStats) {
        for worker in &self.others {
            worker.mailbox.pipeline().report(into);
        }
        self.first.report(into);
    }

    /// Adds the memories of all guests, rank by rank.
    pub(crate) fn report_guests(&self, into: &mut Vec<GuestStats>) {
        self.first.report_guests(into);
        for worker in &self.others {
            worker.mailbox.pipeline().report_guests(into);
        }
    }
}

impl Worker {
    fn start(pipeline: Pipeline) -> Result<Self> {
        let rank = pipeline.rank().map_or(0, Rank::index);
        let state = State::Idle(Ok(()));
        let (tokens, positions, work) = (Vec::new(), Vec::new(), Work::Eval(Wanted::Cache));
        let job = Job { tokens, positions, work, state };
        let mailbox = Mailbox {
            pipeline: Mutex::new(pipeline),
            job: Mutex::new(job),
            changed: Condvar::new(),
        };
        let mailbox = Arc::new(mailbox);
        let thread = thread::Builder::new().name(format!("polychord-rank-{rank}")).spawn({
            let mailbox = mailbox.clone();
            move || mailbox.work()
        });
        let thread = thread.map_err(|reason| Error::Thread { rank, reason })?;
        Ok(Self { mailbox, thread: Some(thread) })
    }

    /// Lets the worker compute.
    fn begin(&self, tokens: &[u32], positions: &[u32], work: Work) {
        let mut job = self.mailbox.wait_while(|state| matches!(state, State::Eval));
        job.tokens.clear();
        job.tokens.extend_from_slice(tokens);
        job.positions.clear();
        job.positions.extend_from_slice(positions);
        job.work = work;
        job.state = State::Eval;
        self.mailbox.changed.notify_all();
    }

    /// Waits until the worker has done so.
    fn finish(&self) -> Result<()> {
        let mut job = self.mailbox.wait_while(|state| matches!(state, State::Eval));
        match &mut job.state {
            State::Idle(result) => std::mem::replace(result, Ok(())),
            State::Eval | State::Quit => Ok(()),
        }
    }
}

impl Mailbox {
    /// Does one job after another, until it is to end.
    fn work(&self) {
        let mut job = self.job();
        loop {
            while matches!(job.state, State::Idle(_)) {
                job = self.changed.wait(job).unwrap_or_else(PoisonError::into_inner);
            }
            if matches!(job.state, State::Quit) {
                return;
            }
            // `begin` and `finish` block until the result is stored, so the job cannot change
            // here.
            let tokens = std::mem::take(&mut job.tokens);
            let positions = std::mem::take(&mut job.positions);
            let work = std::mem::replace(&mut job.work, Work::Eval(Wanted::Cache));
            drop(job);
            // A pool that is dropped takes its mailbox along: none of another may outlive the work, which
            // ends with it.
            let result = self.compute(&tokens, &positions, work);
            job = self.job();
            (job.tokens, job.positions) = (tokens, positions);
            if matches!(job.state, State::Eval) {
                job.state = State::Idle(result);
            }
            self.changed.notify_all();
        }
    }

    fn compute(&self, tokens: &[u32], positions: &[u32], work: Work) -> Result<()> {
        let mut pipeline = self.pipeline();
        let position = positions.first().copied().unwrap_or_default();
        let result = catch_unwind(AssertUnwindSafe(|| match work {
            Work::Eval(wanted) => pipeline.eval(tokens, position, wanted),
            Work::Step(others) => {
                let mut guards: Vec<_> = others.iter().map(|other| other.pipeline()).collect();
                let mut others: Vec<_> = guards.iter_mut().map(|other| &mut **other).collect();
                pipeline.step(&mut others, tokens, positions)
            }
            Work::Pass(duty, mut rows) => pipeline.pass(duty, tokens, position, &mut rows),
        }));
        result.unwrap_or_else(|_| {
            // The others must not wait for this rank; the message of the panic was printed.
            if let Some(rank) = pipeline.rank() {
                rank.stop("it has panicked, which is a bug of Polychord or of the engine");
                rank.finish()?;
            }
            Ok(())
        })
    }

    fn wait_while(&self, condition: impl Fn(&State) -> bool) -> MutexGuard<'_, Job> {
        self.changed
            .wait_while(self.job(), |job| condition(&job.state))
            .unwrap_or_else(PoisonError::into_inner)
    }

    fn job(&self) -> MutexGuard<'_, Job> {
        self.job.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn pipeline(&self) -> MutexGuard<'_, Pipeline> {
        self.pipeline.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        self.mailbox.job().state = State::Quit;
        self.mailbox.changed.notify_all();
        if let Some(thread) = self.thread.take() {
            // It does not panic; and if it did, there would be nothing left to do.
            _ = thread.join();
        }
    }
}

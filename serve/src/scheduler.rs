//! Many answers of one model, advanced together.
//!
//! - `job`: what is asked for, and what comes back; `grammar`: what an answer is held to.
//! - `queue`: what waits, one user after another; `shared`: what the worker and those who ask have in common.
//! - `worker`: the thread that evaluates; `slot`: a session and the answer that it computes;
//!   `turn`: one answer. `shelf`: conversations without a session; `receipts`: those of the last answers.

mod grammar;
mod job;
mod options;
mod queue;
mod receipts;
mod shared;
mod shelf;
mod slot;
mod turn;
mod worker;

use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use polychord_receipts::Digest;
use polychord_session::{Model, SessionOptions, Transformer};
use tokio::sync::mpsc;

pub use self::grammar::{Constraint, Format, Grammars};
pub use self::job::{Event, Job, Logprob, TokenEvent, TokenLogprobs, Usage};
pub use self::options::SchedulerOptions;
use self::queue::Waiting;
use self::receipts::Receipts;
use self::shared::{Shared, gauge};
use self::worker::Worker;
pub(crate) use self::worker::bytes_beside_weights;
use crate::error::{Error, Result};
use crate::metrics::ModelMetrics;

/// Why a job is not taken.
///
/// ```
/// use polychord_serve::scheduler::Refused;
///
/// assert_eq!(Refused::Ending.to_string(), "the server is ending");
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Refused {
    /// As many wait already as may.
    Full {
        /// How many that is.
        waiting: usize,
        /// When it may be worth trying again, from how long answers took.
        retry_after: Duration,
    },
    /// The server is ending.
    Ending,
}

impl std::fmt::Display for Refused {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Full { waiting, .. } => {
                write!(f, "{waiting} requests wait already: try again later")
            }
            Self::Ending => f.write_str("the server is ending"),
        }
    }
}

/// Advances the answers of one model together, in a thread of its own.
///
/// Answers join and leave between tokens, and those that are at a token get it in one pass over the weights
/// ([`Batch`](polychord_session::Batch)). Of prompts, one piece at a time is evaluated between the
/// tokens of the others. Users take their places in turn, however much one of them asks for. A
/// session is given to the job whose beginning it has seen; where that is busy, it is forked.
///
/// ```no_run
/// use std::sync::Arc;
///
/// use polychord_serve::scheduler::{Event, Job, Scheduler, SchedulerOptions};
/// use polychord_session::{Model, SessionOptions, Transformer};
///
/// fn answer(transformer: Arc<Transformer>, model: &Model) -> Result<String, polychord_serve::Error> {
///     let options = SchedulerOptions::new();
///     let scheduler = Scheduler::start(transformer, model, &SessionOptions::new(), &options)?;
///     let Ok(mut events) = scheduler.submit(Job::new([1, 2, 3]).max_tokens(10)) else {
///         return Ok("it is busy".to_owned());
///     };
///     let mut text = String::new();
///     while let Some(Event::Token(token)) = events.blocking_recv() {
///         text += &token.text;
///     }
///     Ok(text)
/// }
/// ```
pub struct Scheduler {
    shared: Arc<Shared>,
    model: Model,
    context: u32,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl Scheduler {
    /// Starts the first session of a model, and the thread that advances it and the others.
    ///
    /// # Errors
    ///
    /// [`Error::Session`] if no session can be started, [`Error::Budget`] if not one fits into the
    /// memory that was set aside, and [`Error::Thread`] if there is no thread.
    pub fn start(
        transformer: Arc<Transformer>,
        model: &Model,
        session: &SessionOptions,
        options: &SchedulerOptions,
    ) -> Result<Self> {
        Self::start_with(ModelMetrics::default(), transformer, model, session, options)
    }

    /// Starts one whose counts are told.
    pub(crate) fn start_with(
        metrics: ModelMetrics,
        transformer: Arc<Transformer>,
        model: &Model,
        session: &SessionOptions,
        options: &SchedulerOptions,
    ) -> Result<Self> {
        let shared = Arc::new(Shared {
            state: Mutex::default(),
            changed: Condvar::new(),
            metrics,
            waiting: options.waiting,
            receipts: options.receipt_bytes.map(Receipts::new),
        });
        let worker = Worker::new(shared.clone(), transformer, model, session, options)?;
        let context = worker.context();
        let thread = std::thread::Builder::new()
            .name("polychord-scheduler".to_owned())
            .spawn(move || worker.run())
            .map_err(Error::Thread)?;
        Ok(Self { shared, model: model.clone(), context, thread: Mutex::new(Some(thread)) })
    }

    /// The receipt with this digest as JSON, if it is still kept.
    #[must_use]
    pub fn receipt(&self, digest: &Digest) -> Option<Arc<str>> {
        self.shared.receipts.as_ref()?.find(digest)
    }

    /// Queues a job. Its events come until it has ended; dropping the receiver ends it.
    ///
    /// # Errors
    ///
    /// [`Refused`] if too many wait, or the server is ending.
    pub fn submit(&self, job: Job) -> Result<mpsc::UnboundedReceiver<Event>, Refused> {
        let mut state = self.shared.state();
        if state.ending {
            return Err(Refused::Ending);
        }
        let waiting = state.queue.len();
        if waiting >= self.shared.waiting {
            self.shared.metrics.refused.inc();
            let ahead = (waiting + state.active) as f64 * state.mean_seconds.max(0.5);
            let retry_after = Duration::from_secs_f64(ahead.clamp(1.0, 600.0).ceil());
            return Err(Refused::Full { waiting, retry_after });
        }
        // A job has no more events than its context has tokens.
        let (events, receiver) = mpsc::unbounded_channel();
        state.queue.push(Waiting { job, events, since: Instant::now() });
        self.shared.metrics.waiting.set(gauge(state.queue.len()));
        self.shared.changed.notify_all();
        Ok(receiver)
    }

    /// The model.
    #[must_use]
    pub const fn model(&self) -> &Model {
        &self.model
    }

    /// Most tokens of prompt and answer together.
    #[must_use]
    pub const fn context(&self) -> u32 {
        self.context
    }

    /// Takes no job any more, lets those that are there go on for `time`, and ends what is left
    /// then. Waits until all have ended.
    pub fn drain(&self, time: Duration) {
        let end = Instant::now().checked_add(time);
        let mut state = self.shared.state();
        state.ending = true;
        self.shared.changed.notify_all();
        while state.active > 0 || !state.queue.is_empty() {
            let left =
                end.map_or(Duration::MAX, |end| end.saturating_duration_since(Instant::now()));
            if left.is_zero() {
                break;
            }
            let waited =
                self.shared.changed.wait_timeout(state, left.min(Duration::from_secs(3600)));
            (state, _) = waited.unwrap_or_else(PoisonError::into_inner);
        }
        drop(state);
        self.end();
    }

    fn end(&self) {
        let mut state = self.shared.state();
        state.ending = true;
        state.stop = true;
        self.shared.changed.notify_all();
        drop(state);
        let thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        // What a panic printed is all that can be said of it.
        _ = thread.map(JoinHandle::join);
    }
}

impl Drop for Scheduler {
    fn drop(&mut self) {
        self.end();
    }
}

impl std::fmt::Debug for Scheduler {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let state = self.shared.state();
        f.debug_struct("Scheduler")
            .field("waiting", &state.queue.len())
            .field("active", &state.active)
            .field("context", &self.context)
            .finish_non_exhaustive()
    }
}

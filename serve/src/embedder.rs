//! Vectors of texts, computed one after another in a thread and a session of their own.

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use polychord_session::{
    Error as SessionError, ErrorKind, Model, Result as SessionResult, Session, SessionOptions,
    Transformer,
};
use tokio::sync::oneshot;

use crate::error::{Error, Result};
use crate::metrics::ModelMetrics;
use crate::scheduler::{Refused, SchedulerOptions, bytes_beside_weights};

/// The vectors of a request, or why there are none.
pub(crate) type Answer = Result<Vec<Vec<f32>>, Failed>;

/// Why there are no vectors.
#[derive(Debug)]
pub(crate) struct Failed {
    pub(crate) kind: ErrorKind,
    pub(crate) message: String,
}

/// Computes the vectors of texts, one text of each request after another.
pub(crate) struct Embedder {
    shared: Arc<Shared>,
    context: u32,
    bytes: u64,
    waiting: usize,
    thread: Mutex<Option<JoinHandle<()>>>,
}

struct Shared {
    state: Mutex<State>,
    changed: Condvar,
    metrics: ModelMetrics,
}

#[derive(Default)]
struct State {
    queue: VecDeque<Request>,
    /// No request is taken any more.
    ending: bool,
    /// Those that are there are not gone on with.
    stop: bool,
    is_busy: bool,
}

struct Request {
    texts: Vec<Vec<u32>>,
    vectors: Vec<Vec<f32>>,
    deadline: Option<Instant>,
    answer: oneshot::Sender<Answer>,
}

impl Embedder {
    /// Starts the session and the thread of a model that has pooling.
    pub(crate) fn start(
        metrics: ModelMetrics,
        transformer: Arc<Transformer>,
        model: &Model,
        session: &SessionOptions,
        options: &SchedulerOptions,
    ) -> Result<Self> {
        let first = transformer.start(model, session)?;
        let (context, bytes) = (first.context(), bytes_beside_weights(&first));
        options.sessions_that_fit(bytes, context)?;
        let shared = Arc::new(Shared { state: Mutex::default(), changed: Condvar::new(), metrics });
        let (model, session) = (model.clone(), session.clone());
        let start = move || transformer.start(&model, &session);
        let worker = Worker { shared: shared.clone(), session: Some(first), start };
        let thread = std::thread::Builder::new()
            .name("polychord-embedder".to_owned())
            .spawn(move || worker.run())
            .map_err(Error::Thread)?;
        let (waiting, thread) = (options.waiting, Mutex::new(Some(thread)));
        Ok(Self { shared, context, bytes, waiting, thread })
    }

    /// Queues texts, each as its tokens. Dropping the receiver ends them.
    pub(crate) fn submit(
        &self,
        texts: Vec<Vec<u32>>,
        deadline: Option<Instant>,
    ) -> Result<oneshot::Receiver<Answer>, Refused> {
        let mut state = self.shared.state();
        if state.ending {
            return Err(Refused::Ending);
        }
        let waiting = state.queue.len();
        if waiting >= self.waiting {
            self.shared.metrics.refused.inc();
            return Err(Refused::Full { waiting, retry_after: Duration::from_secs(1) });
        }
        let (answer, receiver) = oneshot::channel();
        state.queue.push_back(Request { texts, vectors: Vec::new(), deadline, answer });
        self.shared.changed.notify_all();
        Ok(receiver)
    }

    /// Most tokens of a text.
    pub(crate) const fn context(&self) -> u32 {
        self.context
    }

    /// Most bytes of its session beside the weights.
    pub(crate) const fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Takes no request any more, lets those that are there go on until `end`, and ends what is left.
    pub(crate) fn drain(&self, end: Instant) {
        let mut state = self.shared.state();
        state.ending = true;
        while state.is_busy || !state.queue.is_empty() {
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                break;
            }
            let waited = self.shared.changed.wait_timeout(state, left);
            (state, _) = waited.unwrap_or_else(PoisonError::into_inner);
        }
        drop(state);
        self.end();
    }

    fn end(&self) {
        let mut state = self.shared.state();
        (state.ending, state.stop) = (true, true);
        self.shared.changed.notify_all();
        drop(state);
        let thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        // What a panic printed is all that can be said of it.
        _ = thread.map(JoinHandle::join);
    }
}

impl Drop for Embedder {
    fn drop(&mut self) {
        self.end();
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The thread that computes.
struct Worker<F> {
    shared: Arc<Shared>,
    /// None after one that cannot go on.
    session: Option<Session>,
    start: F,
}

impl<F: Fn() -> SessionResult<Session>> Worker<F> {
    fn run(mut self) {
        while let Some(mut request) = self.next() {
            if request.answer.is_closed() {
                continue;
            }
            if request.deadline.is_some_and(|at| Instant::now() >= at) {
                request.end(ErrorKind::Stopped, "its time is over".to_owned());
                continue;
            }
            match self.embed(&request.texts[request.vectors.len()]) {
                Ok(vector) => request.vectors.push(vector),
                Err((kind, message)) => {
                    tracing::warn!(kind = kind.name(), message, "a text has no vector");
                    self.shared.metrics.faults.inc();
                    request.end(kind, message);
                    continue;
                }
            }
            if request.vectors.len() == request.texts.len() {
                // A client that is gone is told nothing.
                _ = request.answer.send(Ok(request.vectors));
            } else {
                // Now the others.
                self.shared.state().queue.push_back(request);
            }
        }
    }

    /// Waits for a request; none when there is to be none.
    fn next(&self) -> Option<Request> {
        let mut state = self.shared.state();
        loop {
            if state.stop {
                // Who waits is told by what is dropped.
                state.queue.clear();
                return None;
            }
            let next = state.queue.pop_front();
            state.is_busy = next.is_some();
            if next.is_some() {
                return next;
            }
            self.shared.changed.notify_all();
            state = self.shared.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn embed(&mut self, ids: &[u32]) -> Result<Vec<f32>, (ErrorKind, String)> {
        let session = match &mut self.session {
            Some(session) => session,
            none => none.insert((self.start)().map_err(of)?),
        };
        self.shared.metrics.prompt_tokens.inc_by(ids.len() as u64);
        let done = catch_unwind(AssertUnwindSafe(|| session.embed(ids).map_err(of)));
        let done = done.unwrap_or_else(|_| {
            let message = "a bug: the computation panicked, see the log".to_owned();
            Err((ErrorKind::Internal, message))
        });
        // After lateness and refusals it is as it was before.
        let can_go_on = |kind| matches!(kind, ErrorKind::Stopped | ErrorKind::InvalidArgument);
        if done.as_ref().is_err_and(|(kind, _)| !can_go_on(*kind)) {
            self.session = None;
        }
        done
    }
}

impl Request {
    fn end(self, kind: ErrorKind, message: String) {
        _ = self.answer.send(Err(Failed { kind, message }));
    }
}

#[allow(clippy::needless_pass_by_value, reason = "for map_err")]
fn of(error: SessionError) -> (ErrorKind, String) {
    (error.kind(), error.to_string())
}

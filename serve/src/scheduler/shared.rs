//! What the worker and those who ask have in common.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use super::queue::Queue;
use super::receipts::Receipts;
use crate::metrics::ModelMetrics;

/// What the worker and those who ask have in common.
pub(super) struct Shared {
    pub(super) state: Mutex<State>,
    /// Something is to be done, or nothing more is.
    pub(super) changed: Condvar,
    pub(super) metrics: ModelMetrics,
    pub(super) waiting: usize,
    /// Receipts of answers, if they are made.
    pub(super) receipts: Option<Receipts>,
}

#[derive(Default)]
pub(super) struct State {
    pub(super) queue: Queue,
    pub(super) active: usize,
    /// No job is taken any more.
    pub(super) ending: bool,
    /// Answers that run are ended, too.
    pub(super) stop: bool,
    /// Mean time of an answer, in seconds, of which later ones count more.
    pub(super) mean_seconds: f64,
}

impl Shared {
    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A count as Prometheus has it.
pub(super) fn gauge(count: usize) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

//! Ctrl-C ends an answer, and not the program.

use std::sync::{Arc, Mutex, PoisonError};

use polychord::model::CancelHandle;

use crate::cli::{Failure, ctrl_c};

/// Ends the answer that is on its way when Ctrl-C comes.
pub(super) struct Interrupts(Arc<Mutex<Option<CancelHandle>>>);

impl Interrupts {
    /// From now on Ctrl-C ends the answer; where there is none, or a second time, this program.
    pub(super) fn new() -> Result<Self, Failure> {
        let answer = Arc::new(Mutex::new(None::<CancelHandle>));
        let current = answer.clone();
        ctrl_c::stops(move || {
            let running = current.lock().unwrap_or_else(PoisonError::into_inner);
            let running = running.as_ref().filter(|answer| !answer.is_cancelled());
            running.map(CancelHandle::cancel).is_some()
        })?;
        Ok(Self(answer))
    }

    /// What ends the answer that begins.
    pub(super) fn begin(&self) -> CancelHandle {
        let handle = CancelHandle::new();
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(handle.clone());
        handle
    }

    /// The answer has ended.
    pub(super) fn end(&self) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }
}

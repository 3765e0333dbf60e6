//! Ctrl-C ends an answer, and not the program.

use std::sync::{Arc, Mutex, PoisonError};

use polychord::model::CancelHandle;

use crate::cli::Failure;

/// Ends the answer that is on its way when Ctrl-C comes.
pub(super) struct Interrupts(Arc<Mutex<Option<CancelHandle>>>);

impl Interrupts {
    /// From now on Ctrl-C ends the answer; where there is none, or a second time, this program.
    #[cfg(unix)]
    pub(super) fn new() -> Result<Self, Failure> {
        use signal_hook::consts::SIGINT;

        let cannot = |error| format!("cannot wait for Ctrl-C: {error}");
        let answer = Arc::new(Mutex::new(None::<CancelHandle>));
        let mut signals = signal_hook::iterator::Signals::new([SIGINT]).map_err(cannot)?;
        let current = answer.clone();
        let wait = move || {
            for _ in signals.forever() {
                let running = current.lock().unwrap_or_else(PoisonError::into_inner);
                match running.as_ref().filter(|answer| !answer.is_cancelled()) {
                    Some(answer) => answer.cancel(),
                    None => std::process::exit(130),
                }
            }
        };
        std::thread::Builder::new().name("ctrl-c".into()).spawn(wait).map_err(cannot)?;
        Ok(Self(answer))
    }

    /// Ctrl-C ends this program.
    #[cfg(not(unix))]
    pub(super) fn new() -> Result<Self, Failure> {
        Ok(Self(Arc::default()))
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

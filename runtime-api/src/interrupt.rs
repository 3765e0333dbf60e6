//! Stopping a guest from outside: by its time limit, or by hand.
#![allow(unsafe_code)]

use std::ptr::NonNull;
use std::time::Duration;

use crate::sync::atomic::{AtomicU32, Ordering};
use crate::sync::{Arc, Mutex, MutexGuard, PoisonError};
use crate::{Error, Result, TrapKind};

/// Stops the running call of a guest, from any thread.
///
/// [`Runtime::interrupter`](crate::Runtime::interrupter) makes it, for guests that were started with
/// [`Limits::interruptible`](crate::Limits::interruptible) or with a time limit. It may outlive the
/// guest, and does nothing then.
///
/// ```
/// use std::thread;
///
/// use polychord_runtime_api::{Error, Result, Runtime, TrapKind};
///
/// fn run_for_a_while(guest: &mut dyn Runtime) -> Result<bool> {
///     let interrupter = guest.interrupter()?;
///     thread::spawn(move || {
///         thread::sleep(std::time::Duration::from_secs(1));
///         interrupter.interrupt();
///     });
///     match guest.call("work", &[]) {
///         Err(Error::Trap { kind: TrapKind::Interrupted, .. }) => Ok(false),
///         done => done.map(|_| true),
///     }
/// }
/// ```
#[derive(Clone, Debug)]
pub struct Interrupter(Arc<Switch>);

/// The word that stops a guest, for as long as there is the guest.
#[derive(Debug)]
pub(crate) struct Switch {
    limit: Option<Duration>,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    /// None once the guest is gone.
    word: Option<Word>,
    running: bool,
    cause: Option<Cause>,
}

/// Who has stopped a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Cause {
    Deadline,
    Interrupter,
}

/// The address of the word that stops a guest when it is not zero.
#[derive(Clone, Copy, Debug)]
struct Word(NonNull<AtomicU32>);

// SAFETY: by the contract of `Switch::new` the word is there until `Switch::close`, and it is only
// used by atomic operations.
unsafe impl Send for Word {}

impl Interrupter {
    pub(crate) const fn new(switch: Arc<Switch>) -> Self {
        Self(switch)
    }

    /// Stops the call of the guest that is running, as soon as the guest comes to a loop or a
    /// function: the call ends with [`TrapKind::Interrupted`], and the guest can be called again. A
    /// function of the host that the guest has called is not cut off.
    ///
    /// Returns whether a call was running. If none was, nothing is stopped, and the next call runs
    /// as any other.
    // A caller that does not care whether there was anything to stop may ignore it.
    pub fn interrupt(&self) -> bool {
        self.0.stop(Cause::Interrupter)
    }

    /// Whether the call of the guest that is running has been stopped, by hand or by its time limit, and
    /// has not ended yet. A function of the host that waits looks at it, and returns
    /// [`TrapKind::Unreachable`] as an [`Error::Trap`], for which the caller gets the reason.
    #[must_use]
    pub fn is_stopping(&self) -> bool {
        self.0.is_stopping()
    }
}

impl Switch {
    /// A switch for calls that may take `limit`.
    ///
    /// # Safety
    ///
    /// `word` is readable, writable and aligned, and used by nothing but compiled code of the guest,
    /// until [`close`](Self::close).
    pub(crate) unsafe fn new(limit: Option<Duration>, word: NonNull<AtomicU32>) -> Self {
        let state = State { word: Some(Word(word)), running: false, cause: None };
        Self { limit, state: Mutex::new(state) }
    }

    pub(crate) const fn limit(&self) -> Option<Duration> {
        self.limit
    }

    /// A call begins: nothing has stopped it yet.
    pub(crate) fn begin(&self) -> Running<'_> {
        let mut state = self.state();
        (state.running, state.cause) = (true, None);
        state.set(0);
        Running(self)
    }

    /// Stops the call that is running; whether there is one.
    pub(crate) fn stop(&self, cause: Cause) -> bool {
        let mut state = self.state();
        if state.running {
            state.cause.get_or_insert(cause);
            state.set(1);
        }
        state.running
    }

    fn is_stopping(&self) -> bool {
        let state = self.state();
        state.running && state.cause.is_some()
    }

    /// The word is about to go.
    pub(crate) fn close(&self) {
        self.state().word = None;
    }

    /// The trap of a guest that was stopped, by what it was stopped for.
    pub(crate) fn explain(&self, error: Error) -> Error {
        let Error::Trap { engine, operation, kind: TrapKind::Unreachable } = error else {
            return error;
        };
        let kind = match (self.state().cause, self.limit) {
            (Some(Cause::Interrupter), _) => TrapKind::Interrupted,
            (Some(Cause::Deadline), Some(limit)) => TrapKind::DeadlineExceeded(limit),
            _ => TrapKind::Unreachable,
        };
        Error::Trap { engine, operation, kind }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A call that runs, until this is dropped.
pub(crate) struct Running<'a>(&'a Switch);

impl Drop for Running<'_> {
    fn drop(&mut self) {
        self.0.state().running = false;
    }
}

impl State {
    fn set(&self, value: u32) {
        if let Some(Word(word)) = self.word {
            // SAFETY: the word is there, by the contract of `Switch::new`: it is set under the lock
            // that `close` takes.
            unsafe { word.as_ref() }.store(value, Ordering::Relaxed);
        }
    }
}

/// The result of looking for a switch.
pub(crate) fn interrupter(switch: Option<&Arc<Switch>>) -> Result<Interrupter> {
    switch.cloned().map(Interrupter::new).ok_or(Error::NotInterruptible)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_call_that_runs_is_stopped() {
        let word = AtomicU32::new(7);
        // SAFETY: the word outlives its use, up to `close`.
        let switch = Arc::new(unsafe { Switch::new(None, NonNull::from(&word)) });
        let interrupter = Interrupter::new(switch.clone());
        let trap = || Error::call("test", "f", Some(TrapKind::Unreachable), "");
        assert!(!interrupter.interrupt());
        let running = switch.begin();
        assert_eq!(word.load(Ordering::Relaxed), 0);
        let kind = |error| match switch.explain(error) {
            Error::Trap { kind, .. } => kind,
            other => panic!("{other}"),
        };
        assert_eq!(kind(trap()), TrapKind::Unreachable);
        assert!(interrupter.interrupt());
        assert_eq!(word.load(Ordering::Relaxed), 1);
        drop(running);
        assert_eq!(kind(trap()), TrapKind::Interrupted);
        assert!(!interrupter.interrupt());
        drop(switch.begin());
        assert_eq!(kind(trap()), TrapKind::Unreachable);
        switch.close();
        let _running = switch.begin();
        interrupter.interrupt();
        assert_eq!(word.load(Ordering::Relaxed), 0, "the word is gone");
    }
}

//! What is due when, and the thread that waits for it.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Instant;

use crate::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use crate::{Error, Result};

/// All alarms that are set.
pub(super) struct Alarms {
    state: Mutex<State>,
    changed: Condvar,
}

struct State {
    next: u64,
    due: BTreeMap<Key, Arc<Action>>,
    is_running: bool,
}

/// An action that is due at some time, until this is dropped.
///
/// ```
/// use std::time::{Duration, Instant};
///
/// use polychord_runtime_api::Result;
/// use polychord_runtime_api::spi::{Alarm, Watchdog};
///
/// fn warn_after(time: Duration) -> Result<Alarm> {
///     Watchdog::set(Instant::now() + time, || eprintln!("this takes long"))
/// }
/// ```
#[derive(Debug)]
pub struct Alarm {
    key: Key,
    action: Arc<Action>,
    alarms: &'static Alarms,
}

/// What an alarm does. Taken when it goes off or is dropped, whichever comes first.
struct Action(Mutex<Option<Box<dyn FnOnce() + Send>>>);

/// When an alarm goes off, and a number that no other one has.
type Key = (Instant, u64);

impl Alarms {
    pub(super) fn new() -> Self {
        let state = State { next: 0, due: BTreeMap::new(), is_running: false };
        Self { state: Mutex::new(state), changed: Condvar::new() }
    }

    /// Adds an alarm. The first one has the thread started that then [runs](Self::run) for ever.
    pub(super) fn add(
        &'static self,
        deadline: Instant,
        action: impl FnOnce() + Send + 'static,
        start: impl FnOnce() -> std::io::Result<()>,
    ) -> Result<Alarm> {
        let mut state = self.lock();
        if !state.is_running {
            start().map_err(|error| Error::NoWatchdog { reason: error.to_string() })?;
            state.is_running = true;
        }
        let key = (deadline, state.next);
        state.next += 1;
        let action = Arc::new(Action(Mutex::new(Some(Box::new(action)))));
        let is_first = state.due.first_key_value().is_none_or(|(first, _)| key < *first);
        state.due.insert(key, action.clone());
        drop(state);
        if is_first {
            self.changed.notify_one();
        }
        Ok(Alarm { key, action, alarms: self })
    }

    /// Lets alarms go off, one after the other.
    pub(super) fn run(&self) {
        loop {
            self.step();
        }
    }

    /// Lets the first alarm go off if it is due, or else waits until it is or something changes.
    pub(super) fn step(&self) {
        let mut state = self.lock();
        let now = Instant::now();
        let first = state.due.first_key_value().map(|(key, action)| (*key, action.clone()));
        match first {
            Some((key, action)) if key.0 <= now => {
                state.due.remove(&key);
                // Other alarms can be set and dropped while the action runs.
                drop(state);
                action.run();
            }
            Some((key, _)) => drop(self.changed.wait_timeout(state, key.0 - now)),
            None => drop(self.changed.wait(state)),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Action {
    fn run(&self) {
        // Held while it runs, so that a drop of the alarm waits for the end.
        let mut action = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(action) = action.take() {
            action();
        }
    }
}

impl Drop for Alarm {
    fn drop(&mut self) {
        self.alarms.lock().due.remove(&self.key);
        self.action.0.lock().unwrap_or_else(PoisonError::into_inner).take();
    }
}

impl fmt::Debug for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Action").finish_non_exhaustive()
    }
}

impl fmt::Debug for Alarms {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Alarms").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_watchdog_that_cannot_start_is_an_error() {
        let alarms: &'static Alarms = Box::leak(Box::new(Alarms::new()));
        let no_thread = || Err(std::io::Error::other("no thread"));
        let error = alarms.add(Instant::now(), || (), no_thread).unwrap_err();
        assert!(matches!(error, Error::NoWatchdog { .. }), "{error}");
        assert!(alarms.lock().due.is_empty());
    }
}

//! Alarms that go off on a thread of their own.

use std::collections::BTreeMap;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Instant;
use std::{fmt, thread};

use crate::{Error, Result};

/// One thread of the process that keeps time, because engines do not.
///
/// ```
/// use std::sync::Arc;
/// use std::sync::atomic::{AtomicBool, Ordering};
/// use std::time::{Duration, Instant};
///
/// use polychord_runtime_api::spi::Watchdog;
///
/// let stop = Arc::new(AtomicBool::new(false));
/// let flag = stop.clone();
/// let deadline = Instant::now() + Duration::from_secs(60);
/// let alarm = Watchdog::set(deadline, move || flag.store(true, Ordering::Relaxed))?;
/// // The work is done in time.
/// drop(alarm);
/// assert!(!stop.load(Ordering::Relaxed));
/// # Ok::<(), polychord_runtime_api::Error>(())
/// ```
pub struct Watchdog {
    alarms: Mutex<Alarms>,
    changed: Condvar,
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
}

/// What an alarm does. Taken when it goes off or is dropped, whichever comes first.
struct Action(Mutex<Option<Box<dyn FnOnce() + Send>>>);

/// When an alarm goes off, and a number that no other one has.
type Key = (Instant, u64);

struct Alarms {
    next: u64,
    due: BTreeMap<Key, Arc<Action>>,
    is_running: bool,
}

static WATCHDOG: Watchdog = Watchdog {
    alarms: Mutex::new(Alarms { next: 0, due: BTreeMap::new(), is_running: false }),
    changed: Condvar::new(),
};

impl Watchdog {
    /// Runs `action` once on the watchdog's thread at `deadline`, unless the alarm is dropped
    /// before. After the drop it neither runs nor is running.
    ///
    /// Actions run one after the other, and an action that takes long delays those of others:
    /// it should do no more than set a flag. It must not drop its own alarm.
    ///
    /// # Errors
    ///
    /// [`Error::NoWatchdog`] if the system has no thread for it: what the alarm is to stop would
    /// never be stopped.
    pub fn set(deadline: Instant, action: impl FnOnce() + Send + 'static) -> Result<Alarm> {
        WATCHDOG.add(deadline, action, || {
            let name = "polychord-watchdog".to_owned();
            thread::Builder::new().name(name).spawn(|| WATCHDOG.run()).map(drop)
        })
    }

    fn add(
        &self,
        deadline: Instant,
        action: impl FnOnce() + Send + 'static,
        start: impl FnOnce() -> std::io::Result<()>,
    ) -> Result<Alarm> {
        let mut alarms = self.lock();
        if !alarms.is_running {
            start().map_err(|error| Error::NoWatchdog { reason: error.to_string() })?;
            alarms.is_running = true;
        }
        let key = (deadline, alarms.next);
        alarms.next += 1;
        let action = Arc::new(Action(Mutex::new(Some(Box::new(action)))));
        let is_first = alarms.due.first_key_value().is_none_or(|(first, _)| key < *first);
        alarms.due.insert(key, action.clone());
        drop(alarms);
        if is_first {
            self.changed.notify_one();
        }
        Ok(Alarm { key, action })
    }

    fn lock(&self) -> MutexGuard<'_, Alarms> {
        self.alarms.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn run(&self) {
        let mut alarms = self.lock();
        loop {
            let now = Instant::now();
            let first = alarms.due.first_key_value().map(|(key, action)| (*key, action.clone()));
            alarms = match first {
                Some((key, action)) if key.0 <= now => {
                    alarms.due.remove(&key);
                    // Other alarms can be set and dropped while the action runs.
                    drop(alarms);
                    action.run();
                    self.lock()
                }
                Some((key, _)) => {
                    let waited = self.changed.wait_timeout(alarms, key.0 - now);
                    waited.unwrap_or_else(PoisonError::into_inner).0
                }
                None => self.changed.wait(alarms).unwrap_or_else(PoisonError::into_inner),
            };
        }
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
        WATCHDOG.lock().due.remove(&self.key);
        self.action.0.lock().unwrap_or_else(PoisonError::into_inner).take();
    }
}

impl fmt::Debug for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Action").finish_non_exhaustive()
    }
}

impl fmt::Debug for Watchdog {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Watchdog").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;
    use std::time::Duration;

    use super::*;

    #[test]
    fn an_alarm_goes_off_once_and_not_before_its_time() {
        let (send, receive) = mpsc::channel();
        let deadline = Instant::now() + Duration::from_millis(20);
        let alarm = Watchdog::set(deadline, move || send.send(Instant::now()).unwrap()).unwrap();
        assert!(receive.recv().unwrap() >= deadline);
        // The action, and with it the sender, is gone.
        assert_eq!(receive.recv(), Err(mpsc::RecvError));
        drop(alarm);
    }

    #[test]
    fn a_dropped_alarm_does_not_go_off() {
        let (send, receive) = mpsc::channel();
        let soon = Instant::now() + Duration::from_millis(5);
        drop(Watchdog::set(soon, move || send.send(()).unwrap()).unwrap());
        assert_eq!(
            receive.recv_timeout(Duration::from_millis(50)),
            Err(mpsc::RecvTimeoutError::Disconnected)
        );
    }

    #[test]
    fn a_later_alarm_does_not_hide_an_earlier_one() {
        let (send, receive) = mpsc::channel();
        let late = Watchdog::set(Instant::now() + Duration::from_secs(3600), || ()).unwrap();
        let soon = Watchdog::set(Instant::now(), move || _ = send.send(())).unwrap();
        receive.recv().unwrap();
        drop((late, soon));
    }

    /// An action that takes long holds up neither those who set alarms nor those who drop them.
    #[test]
    fn alarms_can_be_set_and_dropped_while_an_action_runs() {
        let (started, has_started) = mpsc::channel();
        let (end, ends) = mpsc::channel::<()>();
        let slow = Watchdog::set(Instant::now(), move || {
            started.send(()).unwrap();
            _ = ends.recv();
        });
        has_started.recv().unwrap();
        drop(Watchdog::set(Instant::now() + Duration::from_secs(3600), || ()).unwrap());
        end.send(()).unwrap();
        drop(slow.unwrap());
    }

    #[test]
    fn a_watchdog_that_cannot_start_is_an_error() {
        let dog = Watchdog {
            alarms: Mutex::new(Alarms { next: 0, due: BTreeMap::new(), is_running: false }),
            changed: Condvar::new(),
        };
        let no_thread = || Err(std::io::Error::other("no thread"));
        let error = dog.add(Instant::now(), || (), no_thread).unwrap_err();
        assert!(matches!(error, Error::NoWatchdog { .. }), "{error}");
        assert!(dog.lock().due.is_empty());
    }
}

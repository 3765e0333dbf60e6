use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

/// One thread of the process that interrupts guests whose time is up.
///
/// Engines can be interrupted from another thread, but do not keep time themselves. An alarm
/// goes off at its deadline, and again and again until it is dropped, because an engine may
/// miss an interruption that comes just before or after guest code runs.
pub struct Watchdog {
    alarms: Mutex<Alarms>,
    changed: Condvar,
}

/// Set until dropped.
#[derive(Debug)]
pub struct Alarm {
    key: Key,
}

/// Runs on the watchdog's thread; it must be short, and must not set or drop alarms.
type Action = Arc<dyn Fn() + Send + Sync>;
type Key = (Instant, u64);

#[derive(Default)]
struct Alarms {
    next: u64,
    due: BTreeMap<Key, (Instant, Action)>,
}

const AGAIN: Duration = Duration::from_millis(5);

impl Watchdog {
    /// Runs `action` on the watchdog's thread at `deadline`, and every few milliseconds from
    /// then on, until the alarm is dropped. After the drop it does not run any more.
    pub fn set(deadline: Instant, action: Action) -> Alarm {
        let dog = Self::get();
        let mut alarms = dog.lock();
        let key = (deadline, alarms.next);
        alarms.next += 1;
        alarms.due.insert(key, (deadline, action));
        drop(alarms);
        dog.changed.notify_one();
        Alarm { key }
    }

    fn get() -> &'static Self {
        static WATCHDOG: OnceLock<Watchdog> = OnceLock::new();
        WATCHDOG.get_or_init(|| {
            let name = "polychord-watchdog".to_owned();
            let started = thread::Builder::new().name(name).spawn(|| Self::get().run());
            if let Err(error) = started {
                tracing::error!(%error, "no thread for time limits; guests will not be stopped");
            }
            Self { alarms: Mutex::default(), changed: Condvar::new() }
        })
    }

    fn lock(&self) -> MutexGuard<'_, Alarms> {
        self.alarms.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn run(&self) {
        let mut alarms = self.lock();
        loop {
            let now = Instant::now();
            let mut wake = None::<Instant>;
            // Actions run under the lock, so that none runs after its alarm is dropped.
            for (when, action) in alarms.due.values_mut() {
                if *when <= now {
                    action();
                    *when = now + AGAIN;
                }
                wake = Some(wake.map_or(*when, |wake| wake.min(*when)));
            }
            let wait = wake.map_or(Duration::MAX, |wake| wake.saturating_duration_since(now));
            let waited = self.changed.wait_timeout(alarms, wait);
            alarms = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}

impl fmt::Debug for Watchdog {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Watchdog").finish_non_exhaustive()
    }
}

impl Drop for Alarm {
    fn drop(&mut self) {
        Watchdog::get().lock().due.remove(&self.key);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    #[test]
    fn an_alarm_goes_off_again_until_it_is_dropped() {
        let (send, receive) = mpsc::channel();
        let start = Instant::now();
        let deadline = start + Duration::from_millis(20);
        let alarm = Watchdog::set(deadline, Arc::new(move || send.send(Instant::now()).unwrap()));
        for _ in 0..3 {
            assert!(receive.recv().unwrap() >= deadline);
        }
        drop(alarm);
        while receive.try_recv().is_ok() {}
        // The action, and with it the sender, is gone.
        assert_eq!(receive.try_recv(), Err(mpsc::TryRecvError::Disconnected));
    }

    #[test]
    fn a_later_alarm_does_not_hide_an_earlier_one() {
        let (send, receive) = mpsc::channel();
        let late = Watchdog::set(Instant::now() + Duration::from_secs(3600), Arc::new(|| ()));
        let soon = Watchdog::set(Instant::now(), Arc::new(move || _ = send.send(())));
        receive.recv().unwrap();
        drop((late, soon));
    }
}

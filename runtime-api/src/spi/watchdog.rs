//! Alarms that go off on a thread of their own.

mod alarms;

use std::sync::LazyLock;
use std::thread;
use std::time::Instant;

pub use self::alarms::Alarm;
use self::alarms::Alarms;
use crate::Result;

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
#[derive(Debug)]
#[non_exhaustive]
pub struct Watchdog;

static ALARMS: LazyLock<Alarms> = LazyLock::new(Alarms::new);

impl Watchdog {
    /// Runs `action` once on the watchdog's thread at `deadline`, unless the alarm is dropped
    /// before. After the drop it neither runs nor is running.
    ///
    /// Actions run one after the other, and an action that takes long delays those of others:
    /// it should do no more than set a flag. It must not drop its own alarm.
    ///
    /// # Errors
    ///
    /// [`Error::NoWatchdog`](crate::Error::NoWatchdog) if the system has no thread for it: what the
    /// alarm is to stop would never be stopped.
    pub fn set(deadline: Instant, action: impl FnOnce() + Send + 'static) -> Result<Alarm> {
        ALARMS.add(deadline, action, || {
            let name = "polychord-watchdog".to_owned();
            thread::Builder::new().name(name).spawn(|| ALARMS.run()).map(drop)
        })
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
}

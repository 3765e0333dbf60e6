//! How a rank waits for messages, which come in microseconds or not for hours.

use std::thread;
use std::time::{Duration, Instant};

/// The waits of one exchange: first for a moment on the processor, then ever longer without it.
pub(crate) struct Pace {
    start: Instant,
}

/// Others may need this processor, so that it is offered to them at once.
const EAGER: Duration = Duration::from_millis(2);
/// From then on it is given away: a rank that has nothing to do for seconds takes nothing of it.
const IDLE: Duration = Duration::from_millis(200);

impl Pace {
    pub(crate) const fn starting(start: Instant) -> Self {
        Self { start }
    }

    /// Waits before another look.
    pub(crate) fn wait(&self, now: Instant) {
        match now.saturating_duration_since(self.start) {
            waited if waited < EAGER => thread::yield_now(),
            waited if waited < IDLE => thread::sleep(Duration::from_micros(50)),
            _ => thread::sleep(Duration::from_millis(1)),
        }
    }
}

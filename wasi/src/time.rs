//! Clocks: those of the host, or one that depends on nothing but what the guest does.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use cap_std::time::{Instant, SystemTime};
use wasi_common::{WasiClocks, WasiMonotonicClock, WasiSystemClock};

/// Which time it is for a guest.
///
/// ```
/// use std::time::Duration;
/// use polychord_wasi::{Clock, WasiBuilder};
///
/// let started = Duration::from_secs(1_700_000_000); // since 1970
/// let wasi = WasiBuilder::new().clock(Clock::Fixed(started)).build()?;
/// # Ok::<(), polychord_wasi::Error>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Clock {
    /// That of the host.
    #[default]
    System,
    /// This time since 1970 when the guest starts. The clock goes on by a microsecond each time that it is
    /// read, and by the whole time that the guest waits, which takes no time: so a guest that waits for a
    /// time to come sees it come, and sees the same times in each run.
    Fixed(Duration),
}

/// Time that passes only when it is looked at or waited for.
#[derive(Clone, Debug, Default)]
pub(crate) struct Passed(Arc<AtomicU64>);

/// How far a fixed clock goes on when it is read.
const STEP: Duration = Duration::from_micros(1);

/// Longest time that can pass on a fixed clock: 250 years. WASI's numbers end a bit later.
const MOST: u64 = 250 * 365 * 86_400 * 1_000_000_000;

impl Passed {
    /// Lets time pass.
    pub(crate) fn advance(&self, by: Duration) {
        let by = u64::try_from(by.as_nanos()).unwrap_or(MOST);
        // Whether another thread was faster does not matter: a guest runs in one thread.
        let passed = self.0.load(Ordering::Relaxed).saturating_add(by);
        self.0.store(passed.min(MOST), Ordering::Relaxed);
    }

    fn read(&self) -> Duration {
        self.advance(STEP);
        Duration::from_nanos(self.0.load(Ordering::Relaxed))
    }
}

/// Clocks that begin at a time since 1970.
pub(crate) fn fixed(start: Duration, passed: &Passed) -> WasiClocks {
    let start = start.min(Duration::from_nanos(MOST));
    let system = SystemClock { start, passed: passed.clone() };
    // Guests see differences to it only.
    let origin = Instant::from_std(std::time::Instant::now());
    let monotonic = MonotonicClock { origin, passed: passed.clone() };
    WasiClocks::new().with_system(system).with_monotonic(monotonic)
}

struct SystemClock {
    start: Duration,
    passed: Passed,
}

struct MonotonicClock {
    origin: Instant,
    passed: Passed,
}

impl WasiSystemClock for SystemClock {
    fn resolution(&self) -> Duration {
        STEP
    }

    fn now(&self, _precision: Duration) -> SystemTime {
        SystemTime::from_std(std::time::SystemTime::UNIX_EPOCH + self.start + self.passed.read())
    }
}

impl WasiMonotonicClock for MonotonicClock {
    fn resolution(&self) -> Duration {
        STEP
    }

    fn now(&self, _precision: Duration) -> Instant {
        self.origin + self.passed.read()
    }
}

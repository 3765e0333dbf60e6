//! The barrier that threads wait at for each other.

use std::time::{Duration, Instant};
use std::{hint, thread};

use crate::ranks::transport::{Deadline, Failure};
use crate::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering, fence};
use crate::sync::{Condvar, Mutex, MutexGuard, PoisonError};

/// A barrier that the first failure opens for good.
#[derive(Debug)]
pub(super) struct Barrier {
    ranks: usize,
    /// How many times all have arrived.
    turn: AtomicU64,
    /// How many have come to this turn.
    arrived: AtomicUsize,
    /// Ranks that are in a call, and those that wait: while there are any, nothing begins anew.
    busy: AtomicUsize,
    /// Whether there is a failure, for those who spin.
    failed: AtomicBool,
    state: Mutex<State>,
    changed: Condvar,
    spin: Duration,
}

#[derive(Debug, Default)]
struct State {
    sleepers: usize,
    failure: Option<Failure>,
    /// Whether a rank will never come again.
    gone: bool,
}

/// About what it costs to wake a thread: spinning for longer would not be worth it.
const SPIN: Duration = Duration::from_micros(50);
/// Looks at the turn between two looks at the clock.
const LOOKS: u32 = 64;

impl Barrier {
    pub(super) fn new(ranks: usize) -> Self {
        // Who spins on the core that another rank needs only delays it.
        let cores = thread::available_parallelism().map_or(1, usize::from);
        Self::spinning(ranks, if ranks <= cores { SPIN } else { Duration::ZERO })
    }

    /// A barrier whose ranks spin for this long before they sleep.
    pub(super) fn spinning(ranks: usize, spin: Duration) -> Self {
        Self {
            ranks,
            turn: AtomicU64::new(0),
            arrived: AtomicUsize::new(0),
            busy: AtomicUsize::new(0),
            failed: AtomicBool::new(false),
            state: Mutex::new(State::default()),
            changed: Condvar::new(),
            spin,
        }
    }

    /// The number of the turn that comes next: the same for all ranks that have not arrived yet.
    pub(super) fn turn(&self) -> u64 {
        self.turn.load(Ordering::Acquire)
    }

    /// A rank begins what may need others.
    pub(super) fn enter(&self) {
        // Under the lock, so that `renew` has either seen it or is over.
        let _state = self.state();
        self.busy.fetch_add(1, Ordering::AcqRel);
    }

    /// It has ended.
    pub(super) fn exit(&self) {
        self.busy.fetch_sub(1, Ordering::AcqRel);
    }

    /// Waits at most until a deadline for all others to come to this turn.
    pub(super) fn wait(
        &self,
        turn: u64,
        rank: u32,
        deadline: Option<Deadline>,
    ) -> Result<(), Failure> {
        self.busy.fetch_add(1, Ordering::Relaxed);
        // With the other fence of `renew`: it sees this rank, or this rank sees the failure.
        fence(Ordering::SeqCst);
        let done = self.wait_busy(turn, rank, deadline);
        self.exit();
        done
    }

    fn wait_busy(&self, turn: u64, rank: u32, deadline: Option<Deadline>) -> Result<(), Failure> {
        if self.failed.load(Ordering::Acquire) {
            // If it was forgotten meanwhile, this rank has come too early to be counted.
            let early = || Failure::new(rank, "it came while ranks began anew");
            return Err(self.failure().unwrap_or_else(early));
        }
        if self.arrived.fetch_add(1, Ordering::AcqRel) + 1 == self.ranks {
            self.arrived.store(0, Ordering::Relaxed);
            self.turn.store(turn.wrapping_add(1), Ordering::Release);
            // A rank that goes to sleep looks at the turn under this lock.
            if self.state().sleepers > 0 {
                self.changed.notify_all();
            }
            return Ok(());
        }
        if self.spin(turn) { Ok(()) } else { self.sleep(turn, rank, deadline) }
    }

    /// Whether all came while we looked.
    fn spin(&self, turn: u64) -> bool {
        let mut start = None;
        while !self.spin.is_zero() && !self.failed.load(Ordering::Relaxed) {
            for _ in 0..LOOKS {
                if self.turn() != turn {
                    return true;
                }
                hint::spin_loop();
            }
            if start.get_or_insert_with(Instant::now).elapsed() >= self.spin {
                break;
            }
        }
        self.turn() != turn
    }

    fn sleep(&self, turn: u64, rank: u32, deadline: Option<Deadline>) -> Result<(), Failure> {
        let mut state = self.state();
        state.sleepers += 1;
        let result = loop {
            if self.turn() != turn {
                break Ok(());
            }
            if let Some(failure) = &state.failure {
                break Err(failure.clone());
            }
            state = self.sleep_once(state, rank, deadline);
        };
        state.sleepers -= 1;
        result
    }

    /// Sleeps until something changes. A deadline that has come is a failure.
    fn sleep_once<'a>(
        &'a self,
        mut state: MutexGuard<'a, State>,
        rank: u32,
        deadline: Option<Deadline>,
    ) -> MutexGuard<'a, State> {
        let left = deadline.map(|deadline| deadline.at.saturating_duration_since(Instant::now()));
        match (left, deadline) {
            (Some(Duration::ZERO), Some(Deadline { limit, .. })) => {
                self.fail_locked(&mut state, Failure::waited(rank, limit));
                state
            }
            (Some(left), _) => {
                self.changed.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0
            }
            (None, _) => self.changed.wait(state).unwrap_or_else(PoisonError::into_inner),
        }
    }

    /// Waits until something is so that other ranks change, who then [wake](Self::wake) all.
    pub(super) fn wait_until(
        &self,
        rank: u32,
        deadline: Option<Deadline>,
        mut is_so: impl FnMut() -> bool,
    ) -> Result<(), Failure> {
        self.busy.fetch_add(1, Ordering::SeqCst);
        let mut state = self.state();
        state.sleepers += 1;
        let done = loop {
            if let Some(failure) = &state.failure {
                break Err(failure.clone());
            }
            if is_so() {
                break Ok(());
            }
            state = self.sleep_once(state, rank, deadline);
        };
        state.sleepers -= 1;
        drop(state);
        self.exit();
        done
    }

    /// Lets those who wait look again.
    pub(super) fn wake(&self) {
        if self.state().sleepers > 0 {
            self.changed.notify_all();
        }
    }

    /// Stops all, unless that has happened before.
    pub(super) fn fail(&self, failure: Failure) {
        self.fail_locked(&mut self.state(), failure);
    }

    fn fail_locked(&self, state: &mut State, failure: Failure) {
        if state.failure.is_none() {
            state.failure = Some(failure);
            self.failed.store(true, Ordering::Release);
            self.changed.notify_all();
        }
    }

    /// Why all are stopped.
    pub(super) fn failure(&self) -> Option<Failure> {
        self.state().failure.clone()
    }

    /// Stops all for ever.
    pub(super) fn leave(&self, failure: Failure) {
        let mut state = self.state();
        state.gone = true;
        self.fail_locked(&mut state, failure);
    }

    /// Begins anew, if all ranks are still there and one has failed: `forget` what was not taken. If ranks are
    /// busy, nothing happens, and the error is how many are.
    pub(super) fn renew(&self, forget: impl FnOnce()) -> Result<(), usize> {
        let mut state = self.state();
        if state.gone || state.failure.is_none() {
            return Ok(());
        }
        // A rank that waits is counted before it looks for a failure. So it is seen here, or it
        // sees the failure, or it comes after all that follows.
        fence(Ordering::SeqCst);
        match self.busy.load(Ordering::Acquire) {
            0 => {
                forget();
                self.arrived.store(0, Ordering::Relaxed);
                state.failure = None;
                self.failed.store(false, Ordering::Release);
                Ok(())
            }
            busy => Err(busy),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

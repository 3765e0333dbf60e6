//! Guests that compute together, and what they exchange.

mod meeting;
#[cfg(test)]
mod tests;

use std::fmt;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::{Duration, Instant};

use self::meeting::{Deadline, Failure, Meeting};
use crate::{Error, Result, TrapKind};

/// One of several participants that compute together, each with guests and a thread of its own.
///
/// A guest becomes part of it by [`Runtime::join`](crate::Runtime::join). Its calls of
/// `all_gather` then wait for those of all other ranks, and all of them exchange what each has
/// computed. Clones are the same rank: guests that run in one thread, one after another, join
/// the same one.
///
/// The first rank that fails stops all: whose guest traps or exceeds its time, whose gather is
/// refused, or whose last clone is dropped. Gathers that wait are refused then, and so are all
/// later ones, until [`renew`](Self::renew). Without a time limit, a guest that runs for ever
/// lets the others wait for ever.
#[derive(Clone)]
pub struct Rank(Arc<Member>);

struct Member {
    group: Arc<Group>,
    index: usize,
    /// Of the call that runs.
    deadline: Mutex<Option<Deadline>>,
    /// Whether one of its guests runs, which counts in the meeting.
    in_call: AtomicBool,
    /// Nanoseconds of all gathers.
    exchange_nanos: AtomicU64,
}

/// What all ranks share.
struct Group {
    meeting: Meeting,
    /// Two for each rank, which take turns: who writes for the next turn disturbs nobody who
    /// still reads, and nobody is two turns ahead of another.
    slots: Box<[[RwLock<Slot>; 2]]>,
}

/// What a rank brings to a turn.
struct Slot {
    intent: Intent,
    bytes: Box<[u8]>,
}

/// What a rank is about to do; all have to do the same.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Intent {
    Gather { chunk: u64, total: u64 },
    Finish,
}

/// Bytes that a rank brings at once. Longer chunks take several turns, so that no guest decides
/// how much memory the host needs.
const PIECE: usize = 128 << 10;

impl Rank {
    /// Most ranks of a group: far more than a machine has processors, and few enough that all
    /// have room for what they exchange.
    pub const MAX: usize = 1024;

    /// A group of `count` ranks in their order. It takes 256 KiB of memory for each, and no more
    /// later.
    ///
    /// # Errors
    ///
    /// [`Error::RankCount`] if `count` is 0 or beyond [`Rank::MAX`].
    pub fn group(count: usize) -> Result<Vec<Self>> {
        if count == 0 || count > Self::MAX {
            return Err(Error::RankCount { asked: count, limit: Self::MAX });
        }
        let slots = (0..count).map(|_| [Slot::new(), Slot::new()]).collect();
        let group = Arc::new(Group { meeting: Meeting::new(count), slots });
        let member = |index| Member {
            group: group.clone(),
            index,
            deadline: Mutex::default(),
            in_call: AtomicBool::new(false),
            exchange_nanos: AtomicU64::new(0),
        };
        Ok((0..count).map(|index| Self(Arc::new(member(index)))).collect())
    }

    /// Its number, from 0.
    #[must_use]
    pub fn index(&self) -> usize {
        self.0.index
    }

    /// How many ranks the group has.
    #[must_use]
    pub fn count(&self) -> usize {
        self.0.group.slots.len()
    }

    /// Time of all exchanges of its guests with other ranks so far: waiting and copying.
    #[must_use]
    pub fn exchange_time(&self) -> Duration {
        Duration::from_nanos(self.0.exchange_nanos.load(Ordering::Relaxed))
    }

    /// Waits until all ranks have come here: the end of what they compute together.
    ///
    /// # Errors
    ///
    /// [`Error::RankStopped`] if one of them has failed, and [`Error::RanksDisagree`] if one of
    /// them gathers instead.
    pub fn finish(&self) -> Result<()> {
        let turn = self.0.bring(Intent::Finish, &[]);
        self.or_stop(self.0.meet(turn, Intent::Finish, |_, _| ()))
    }

    /// Stops all ranks, unless one has failed before.
    pub fn stop(&self, reason: impl fmt::Display) {
        self.0.group.meeting.fail(self.0.failure(reason));
    }

    /// The rank that failed first and so stopped all.
    #[must_use]
    pub fn stopped_by(&self) -> Option<usize> {
        self.0.group.meeting.failure().map(|failure| failure.rank)
    }

    /// Forgets a failure, but not that a rank was dropped: gathers work again. Does nothing if no
    /// rank has failed.
    ///
    /// # Errors
    ///
    /// [`Error::RankBusy`] while a guest of the group runs, or a rank waits for others: it would
    /// miss those that have come already.
    pub fn renew(&self) -> Result<()> {
        let ranks = self.count();
        let busy = |running| Error::RankBusy { running, ranks };
        self.0.group.meeting.renew().map_err(busy)
    }

    /// Stops all ranks when the guard is dropped by a panic, so that none waits for this one.
    #[must_use]
    pub fn stop_if_panicking(&self) -> impl Drop + use<> {
        StopIfPanicking(self.clone())
    }

    /// Exchanges the parts of a buffer. Stops all ranks if the request is refused, `buffer`
    /// being a range that was found good or the reason why it was not.
    pub(crate) fn all_gather(&self, buffer: Result<&mut [u8]>, chunk: u64) -> Result<()> {
        let start = Instant::now();
        let done = self.or_stop(buffer.and_then(|buffer| self.0.all_gather(buffer, chunk)));
        let nanos = u64::try_from(start.elapsed().as_nanos()).unwrap_or(u64::MAX);
        self.0.exchange_nanos.fetch_add(nanos, Ordering::Relaxed);
        done
    }

    /// A call begins, which may take so long. A call that was left by a panic ends with it.
    pub(crate) fn begin_call(&self, limit: Option<Duration>) {
        if !self.0.in_call.swap(true, Ordering::AcqRel) {
            self.0.group.meeting.enter();
        }
        // A limit beyond what the clock can express never comes.
        let deadline = limit.and_then(|limit| Some((Instant::now().checked_add(limit)?, limit)));
        *self.0.deadline() = deadline;
    }

    /// A call ends. That its time was over while it waited for others is a trap, as elsewhere.
    pub(crate) fn end_call(
        &self,
        engine: &'static str,
        operation: &str,
        done: Result<()>,
    ) -> Result<()> {
        self.leave_call();
        self.or_stop(done)?;
        match self.0.group.meeting.failure() {
            Some(Failure { rank, waited: Some(limit), .. }) if rank == self.0.index => {
                let kind = TrapKind::DeadlineExceeded(limit);
                Err(Error::Trap { engine, operation: operation.to_owned(), kind })
            }
            _ => Ok(()),
        }
    }

    /// The end of a call, however it ended.
    fn leave_call(&self) {
        *self.0.deadline() = None;
        if self.0.in_call.swap(false, Ordering::AcqRel) {
            self.0.group.meeting.exit();
        }
    }

    fn or_stop<T>(&self, done: Result<T>) -> Result<T> {
        done.inspect_err(|error| self.stop(error))
    }
}

/// Whether `ranks` chunks, one after another, make up a total, of which the last may lack a part
/// or, as those before it, all.
pub(crate) fn check_chunk(chunk: u64, total: u64, ranks: usize) -> Result<()> {
    if chunk <= total && u128::from(total) <= u128::from(chunk) * ranks as u128 {
        return Ok(());
    }
    Err(Error::BadChunk { chunk, total, ranks })
}

/// What rank `rank` exchanges of its chunk after `done` bytes of it.
fn piece(rank: usize, chunk: usize, done: usize, total: usize) -> Range<usize> {
    let at = |offset: usize| rank.saturating_mul(chunk).saturating_add(offset).min(total);
    at(done)..at(done.saturating_add(PIECE).min(chunk))
}

impl Member {
    fn all_gather(&self, buffer: &mut [u8], chunk: u64) -> Result<()> {
        let total = buffer.len();
        check_chunk(chunk, total as u64, self.group.slots.len())?;
        let intent = Intent::Gather { chunk, total: total as u64 };
        // No more than the total, as was just checked.
        let chunk = usize::try_from(chunk).unwrap_or(total);
        let mut done = 0;
        loop {
            let turn = self.bring(intent, &buffer[piece(self.index, chunk, done, total)]);
            self.meet(turn, intent, |rank, bytes| {
                let to = &mut buffer[piece(rank, chunk, done, total)];
                to.copy_from_slice(&bytes[..to.len()]);
            })?;
            done += PIECE;
            if done >= chunk {
                return Ok(());
            }
        }
    }

    /// Puts down what this rank has for the next turn.
    fn bring(&self, intent: Intent, bytes: &[u8]) -> u64 {
        let turn = self.group.meeting.turn();
        let slot = self.group.slot(self.index, turn);
        let mut slot = slot.write().unwrap_or_else(PoisonError::into_inner);
        slot.intent = intent;
        slot.bytes[..bytes.len()].copy_from_slice(bytes);
        turn
    }

    /// Waits for all others, and looks at what they have brought.
    fn meet(&self, turn: u64, own: Intent, mut take: impl FnMut(usize, &[u8])) -> Result<()> {
        let ranks = self.group.slots.len();
        let deadline = *self.deadline();
        self.group.meeting.wait(turn, self.index, deadline).map_err(|failure| {
            let Failure { rank, reason, .. } = failure;
            Error::RankStopped { rank, ranks, reason }
        })?;
        for other in (0..ranks).filter(|other| *other != self.index) {
            let slot = self.group.slot(other, turn);
            let slot = slot.read().unwrap_or_else(PoisonError::into_inner);
            if slot.intent != own {
                let [does, other_does] = [own, slot.intent].map(|intent| intent.to_string());
                return Err(Error::RanksDisagree { rank: self.index, does, other, other_does });
            }
            take(other, &slot.bytes);
        }
        Ok(())
    }

    fn failure(&self, reason: impl fmt::Display) -> Failure {
        Failure { rank: self.index, reason: reason.to_string(), waited: None }
    }

    fn deadline(&self) -> MutexGuard<'_, Option<Deadline>> {
        self.deadline.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Group {
    fn slot(&self, rank: usize, turn: u64) -> &RwLock<Slot> {
        let [even, odd] = &self.slots[rank];
        if turn.is_multiple_of(2) { even } else { odd }
    }
}

impl Slot {
    fn new() -> RwLock<Self> {
        RwLock::new(Self { intent: Intent::Finish, bytes: vec![0; PIECE].into() })
    }
}

impl fmt::Display for Intent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Gather { chunk, total } => {
                write!(f, "gathers {total} bytes in chunks of {chunk}")
            }
            Self::Finish => f.write_str("has finished"),
        }
    }
}

/// See [`Rank::stop_if_panicking`].
struct StopIfPanicking(Rank);

impl Drop for StopIfPanicking {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.stop("it has panicked, which is a bug of Polychord or of the engine");
            self.0.leave_call();
        }
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        self.group.meeting.leave(self.failure("it is gone"));
    }
}

impl fmt::Debug for Rank {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Rank")
            .field("index", &self.index())
            .field("count", &self.count())
            .field("failure", &self.0.group.meeting.failure())
            .finish()
    }
}

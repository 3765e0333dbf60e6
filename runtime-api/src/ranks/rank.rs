//! One rank of a group, over any transport.

use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::ranks::messages;
use crate::ranks::subgroup::Subgroup;
use crate::ranks::threads::Threads;
use crate::ranks::transport::{Deadline, Failure, Traffic, Transport};
use crate::ranks::within::Within;
use crate::{Error, Result, TrapKind};

/// One of several participants that compute together, each with guests and a thread of its own.
///
/// A guest becomes part of it by [`Runtime::join`](crate::Runtime::join). Its calls of
/// `all_gather` then wait for those of all other ranks, and all of them exchange what each has
/// computed. Clones are the same rank: guests that run in one thread, one after another, join
/// the same one.
///
/// [`group`](Self::group) makes all ranks of a group, as threads of this process;
/// [`over`](Self::over) makes one of any [`Transport`], whose other ranks may be elsewhere.
///
/// The first rank that fails stops all: whose guest traps or exceeds its time, whose gather is
/// refused, or whose last clone is dropped. Gathers that wait are refused then, and so are all
/// later ones, until [`renew`](Self::renew). Without a time limit, a guest that runs for ever
/// lets the others wait for ever.
///
/// ```
/// use polychord_runtime_api::{Rank, Result, Runtime};
///
/// /// Makes guests part of one group; each is then called by a thread of its own.
/// fn join(guests: &mut [Box<dyn Runtime>]) -> Result<()> {
///     let ranks = Rank::group(guests.len())?;
///     for (guest, rank) in guests.iter_mut().zip(ranks) {
///         guest.join(rank)?;
///     }
///     Ok(())
/// }
/// ```
#[derive(Clone)]
pub struct Rank(Arc<Member>);

struct Member {
    transport: Box<dyn Transport>,
    rank: u32,
    ranks: u32,
    time: Mutex<CallTime>,
    /// Whether one of its guests runs, which the transport is told.
    in_call: AtomicBool,
    /// Nanoseconds of all gathers.
    exchange_nanos: AtomicU64,
}

/// How long others are waited for.
#[derive(Clone, Copy, Default)]
struct CallTime {
    /// Of the call that runs.
    deadline: Option<Deadline>,
    /// The limit of the last call.
    limit: Option<Duration>,
}

impl Rank {
    /// Most ranks of a group.
    pub const MAX: usize = Threads::MAX;

    /// A group of `count` ranks in their order, as [`Threads`] of this process.
    ///
    /// # Errors
    ///
    /// [`Error::RankCount`] if `count` is 0 or beyond [`Rank::MAX`].
    pub fn group(count: usize) -> Result<Vec<Self>> {
        Threads::group(count)?.into_iter().map(Self::over).collect()
    }

    /// The threads of this process as ranks of a group of all threads of all processes: `count` in each
    /// process, which is itself the rank `process` of a group of processes. Ranks are numbered process by
    /// process. What they exchange is put together here first, and goes to other processes in one message.
    ///
    /// ```
    /// use polychord_runtime_api::Rank;
    ///
    /// let processes = Rank::group(3)?;
    /// let threads = Rank::within(&processes[1], 2)?;
    /// assert_eq!((threads[1].index(), threads[1].count()), (3, 6));
    /// # Ok::<(), polychord_runtime_api::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// [`Error::RankCount`] if there are no ranks or more than [`Rank::MAX`].
    pub fn within(process: &Self, count: usize) -> Result<Vec<Self>> {
        Within::group(&Process(process.clone()), count)?.into_iter().map(Self::over).collect()
    }

    /// Some ranks of a group as a group of their own, numbered in the order of `members`, of which this one
    /// is one. Each of them makes it; failures are those of the whole group, and errors name ranks by their
    /// numbers in it.
    ///
    /// ```
    /// use polychord_runtime_api::Rank;
    ///
    /// let ranks = Rank::group(4)?;
    /// let pair = ranks[3].subgroup(&[1, 3])?;
    /// assert_eq!((pair.index(), pair.count()), (1, 2));
    /// # Ok::<(), polychord_runtime_api::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// [`Error::RankNumber`] if a member does not exist or comes twice, or this rank is none of them.
    pub fn subgroup(&self, members: &[usize]) -> Result<Self> {
        Self::over(Subgroup::new(Process(self.clone()), members)?)
    }

    /// The rank that a transport says it is.
    ///
    /// # Errors
    ///
    /// [`Error::RankCount`] if its group has no ranks or more than [`Rank::MAX`], and
    /// [`Error::RankNumber`] if it says that it is none of them.
    pub fn over(transport: impl Transport + 'static) -> Result<Self> {
        let (rank, ranks) = (transport.rank(), transport.ranks());
        let (number, count) = (rank as usize, ranks as usize);
        if count == 0 || count > Self::MAX {
            return Err(Error::RankCount { asked: count, limit: Self::MAX });
        }
        if number >= count {
            return Err(Error::RankNumber { rank: number, ranks: count });
        }
        Ok(Self(Arc::new(Member {
            transport: Box::new(transport),
            rank,
            ranks,
            time: Mutex::default(),
            in_call: AtomicBool::new(false),
            exchange_nanos: AtomicU64::new(0),
        })))
    }

    /// Its number, from 0.
    #[must_use]
    pub fn index(&self) -> usize {
        self.0.rank as usize
    }

    /// How many ranks the group has.
    #[must_use]
    pub fn count(&self) -> usize {
        self.0.ranks as usize
    }

    /// Time of all exchanges of its guests with other ranks so far: waiting and copying.
    #[must_use]
    pub fn exchange_time(&self) -> Duration {
        Duration::from_nanos(self.0.exchange_nanos.load(Ordering::Relaxed))
    }

    /// What it has exchanged with others so far, as far as its transport counts it.
    #[must_use]
    pub fn traffic(&self) -> Traffic {
        self.0.transport.traffic()
    }

    /// Sends bytes to one other rank, which takes them by [`receive_from`](Self::receive_from), in the order in
    /// which they were sent. It waits only if that one is far behind.
    ///
    /// ```
    /// use polychord_runtime_api::Rank;
    ///
    /// let ranks = Rank::group(2)?;
    /// ranks[0].send_to(1, b"state")?;
    /// let mut state = Vec::new();
    /// ranks[1].receive_from(0, &mut state, 100)?;
    /// assert_eq!(state, b"state");
    /// # Ok::<(), polychord_runtime_api::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// [`Error::RankNumber`] if there is no other rank of this number, and [`Error::RankStopped`] if one has
    /// failed, or the transport carries no such messages.
    pub fn send_to(&self, to: usize, bytes: &[u8]) -> Result<()> {
        self.or_stop(self.other(to).and_then(|to| self.0.transport.send(to, bytes, None)))
    }

    /// Replaces `into` by the next bytes that another rank has sent to this one.
    ///
    /// # Errors
    ///
    /// The errors of [`send_to`](Self::send_to), and [`Error::RanksDisagree`] if there are more than `most`.
    pub fn receive_from(&self, from: usize, into: &mut Vec<u8>, most: usize) -> Result<()> {
        let from = self.other(from);
        self.or_stop(from.and_then(|from| self.0.transport.receive(from, into, most, None)))
    }

    /// The number of another rank.
    fn other(&self, number: usize) -> Result<u32> {
        let other = u32::try_from(number).ok();
        let other = other.filter(|other| *other < self.0.ranks && *other != self.0.rank);
        other.ok_or(Error::RankNumber { rank: number, ranks: self.count() })
    }

    /// Waits until all ranks have come here: the end of what they compute together.
    ///
    /// No call runs then, so the wait may take as long as another call could: by the
    /// [`call_time`](crate::Limits::call_time) of the guest that this rank has called last. Without one
    /// it ends only when all have come or one has failed, so a transport over a network should notice
    /// by itself that another rank is unreachable.
    ///
    /// # Errors
    ///
    /// [`Error::RankStopped`] if one of them has failed, or does not come in time, and [`Error::RanksDisagree`] if one of
    /// them gathers instead.
    pub fn finish(&self) -> Result<()> {
        let limit = self.0.time().limit;
        self.or_stop(self.0.transport.finish(limit.and_then(Deadline::after)))
    }

    /// Gives all ranks the bytes that rank 0 has: `bytes` of the others are replaced. All ranks call it at
    /// the same point of what they do.
    ///
    /// Takes one exchange for up to 252 bytes, and two for more. It waits without a limit of time, as a
    /// rank may have nothing to say for long.
    ///
    /// ```
    /// use polychord_runtime_api::{Rank, Result};
    ///
    /// /// What all are to do next, which rank 0 alone knows.
    /// fn next(rank: &Rank, job: &mut Vec<u8>) -> Result<()> {
    ///     rank.broadcast(job, 4096)
    /// }
    /// ```
    ///
    /// # Errors
    ///
    /// [`Error::RanksDisagree`] if there are more than `most` bytes, for which no rank makes room, or if
    /// another rank does something else, and [`Error::RankStopped`] if one has failed. All ranks are
    /// stopped then.
    pub fn broadcast(&self, bytes: &mut Vec<u8>, most: usize) -> Result<()> {
        self.or_stop(messages::broadcast(&*self.0.transport, bytes, most))
    }

    /// Gives all ranks the bytes that rank `from` has: `buffer` of the others, which is as long, is replaced. All
    /// ranks call it at the same point of what they do.
    ///
    /// ```
    /// use polychord_runtime_api::Rank;
    ///
    /// let rank = Rank::group(1)?.remove(0);
    /// let mut state = *b"state";
    /// rank.broadcast_from(0, &mut state)?;
    /// # Ok::<(), polychord_runtime_api::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// [`Error::RankNumber`] if there is no rank `from`, and the errors of [`broadcast`](Self::broadcast).
    pub fn broadcast_from(&self, from: usize, buffer: &mut [u8]) -> Result<()> {
        let ranks = self.count();
        let number = u32::try_from(from).ok().filter(|from| *from < self.0.ranks);
        let number = number.ok_or(Error::RankNumber { rank: from, ranks });
        self.or_stop(number.and_then(|from| self.0.transport.broadcast(from, buffer, None)))
    }

    /// Exchanges bytes that may be longer on one rank than on another: returns what each rank has
    /// brought, in their order. All ranks call it at the same point of what they do.
    ///
    /// ```
    /// use polychord_runtime_api::{Rank, Result};
    ///
    /// /// Whether all ranks are of one version.
    /// fn agree(rank: &Rank, version: &str) -> Result<bool> {
    ///     let versions = rank.exchange(version.as_bytes(), 64)?;
    ///     Ok(versions.iter().all(|other| *other == version.as_bytes()))
    /// }
    /// ```
    ///
    /// # Errors
    ///
    /// Returns the errors of [`broadcast`](Self::broadcast).
    pub fn exchange(&self, own: &[u8], most: usize) -> Result<Vec<Vec<u8>>> {
        self.or_stop(messages::exchange(&*self.0.transport, own, most))
    }

    /// Stops all ranks, unless one has failed before.
    pub fn stop(&self, reason: impl fmt::Display) {
        self.0.transport.fail(Failure::new(self.0.rank, reason));
    }

    /// The rank that failed first and so stopped all.
    #[must_use]
    pub fn stopped_by(&self) -> Option<usize> {
        self.0.transport.failure().map(|failure| failure.rank as usize)
    }

    /// Forgets a failure, but not that a rank was dropped: gathers work again. Does nothing if no
    /// rank has failed.
    ///
    /// # Errors
    ///
    /// [`Error::RankBusy`] while a guest of the group runs, or a rank waits for others: it would
    /// miss those that have come already. [`Error::RankStopped`] if the transport cannot begin
    /// anew.
    pub fn renew(&self) -> Result<()> {
        self.0.transport.renew()
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

    /// Begins a call, which may take as long as `limit`. A call that was left by a panic ends with
    /// it.
    pub(crate) fn begin_call(&self, limit: Option<Duration>) {
        if !self.0.in_call.swap(true, Ordering::AcqRel) {
            self.0.transport.enter();
        }
        *self.0.time() = CallTime { deadline: limit.and_then(Deadline::after), limit };
    }

    /// Ends a call. That its time was over while it waited for others is a trap, as elsewhere.
    pub(crate) fn end_call(
        &self,
        engine: &'static str,
        operation: &str,
        done: Result<()>,
    ) -> Result<()> {
        self.leave_call();
        self.or_stop(done)?;
        match self.0.transport.failure() {
            Some(Failure { rank, limit: Some(limit), .. }) if rank == self.0.rank => {
                let kind = TrapKind::DeadlineExceeded(limit);
                Err(Error::Trap { engine, operation: operation.to_owned(), kind })
            }
            _ => Ok(()),
        }
    }

    /// The end of a call, however it ended.
    fn leave_call(&self) {
        self.0.time().deadline = None;
        if self.0.in_call.swap(false, Ordering::AcqRel) {
            self.0.transport.exit();
        }
    }

    fn or_stop<T>(&self, done: Result<T>) -> Result<T> {
        done.inspect_err(|error| self.0.transport.fail(Failure::by(self.0.rank, error)))
    }
}

/// A rank that is a process, as its threads use it.
#[derive(Clone)]
pub(super) struct Process(Rank);

impl AsRef<dyn Transport> for Process {
    fn as_ref(&self) -> &(dyn Transport + 'static) {
        &*self.0.0.transport
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

impl Member {
    fn all_gather(&self, buffer: &mut [u8], chunk: u64) -> Result<()> {
        check_chunk(chunk, buffer.len() as u64, self.ranks as usize)?;
        // No more than the total, as was just checked.
        let chunk = usize::try_from(chunk).unwrap_or(buffer.len());
        let deadline = self.time().deadline;
        self.transport.all_gather(buffer, chunk, deadline)
    }

    fn time(&self) -> MutexGuard<'_, CallTime> {
        self.time.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// See [`Rank::stop_if_panicking`].
struct StopIfPanicking(Rank);

impl Drop for StopIfPanicking {
    fn drop(&mut self) {
        if std::thread::panicking() {
            // A second panic, of the transport, would end the process.
            _ = catch_unwind(AssertUnwindSafe(|| {
                self.0.stop("it has panicked, which is a bug of Polychord or of the engine");
                self.0.leave_call();
            }));
        }
    }
}

impl fmt::Debug for Rank {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Rank")
            .field("index", &self.index())
            .field("count", &self.count())
            .field("failure", &self.0.transport.failure())
            .finish()
    }
}

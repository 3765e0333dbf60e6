//! What carries bytes among the ranks of a group: threads of one process, or anything else.

use std::fmt;
use std::time::{Duration, Instant};

use crate::{Error, Result, TrapKind};

/// How one rank reaches the others of its group.
///
/// [`Threads`](super::Threads) is the one for ranks that are threads of one process;
/// [`Rank::over`](super::Rank::over) makes a rank of any other, for which this process may be one
/// rank alone. The calls of one rank come one after another, but for [`fail`](Self::fail),
/// [`failure`](Self::failure) and [`renew`](Self::renew), which may come at any time and from any
/// thread.
///
/// The first failure of any rank stops all: exchanges that wait are refused, and all later ones,
/// with [`Error::RankStopped`](crate::Error::RankStopped), until the group is renewed. A transport
/// that is dropped is a rank that has failed.
///
/// ```
/// use polychord_runtime_api::ranks::{Deadline, Failure, Transport};
/// use polychord_runtime_api::{Rank, Result};
///
/// /// A group of one.
/// struct Alone;
///
/// impl Transport for Alone {
///     fn rank(&self) -> u32 {
///         0
///     }
///     fn ranks(&self) -> u32 {
///         1
///     }
///     fn all_gather(&self, _: &mut [u8], _: usize, _: Option<Deadline>) -> Result<()> {
///         Ok(())
///     }
///     fn finish(&self, _: Option<Deadline>) -> Result<()> {
///         Ok(())
///     }
///     fn fail(&self, _: Failure) {}
///     fn failure(&self) -> Option<Failure> {
///         None
///     }
///     fn renew(&self) -> Result<()> {
///         Ok(())
///     }
/// }
///
/// assert_eq!(Rank::over(Alone)?.count(), 1);
/// # Ok::<(), polychord_runtime_api::Error>(())
/// ```
pub trait Transport: Send + Sync {
    /// The number of this rank, from 0. Always the same.
    fn rank(&self) -> u32;

    /// How many ranks the group has. Always the same, on all ranks.
    fn ranks(&self) -> u32;

    /// Exchanges chunks: rank `r` has bytes `r * chunk..(r + 1) * chunk` of `buffer`, as far as
    /// the buffer reaches, and gets all others. The sizes are checked before.
    ///
    /// # Errors
    ///
    /// [`Error::RankStopped`](crate::Error::RankStopped) if a rank has failed, with this rank's own
    /// failure ([`Failure::waited`]) if the deadline came first, and
    /// [`Error::RanksDisagree`](crate::Error::RanksDisagree) if another rank does something else,
    /// or has other sizes. The caller then [fails](Self::fail) the group.
    fn all_gather(&self, buffer: &mut [u8], chunk: usize, deadline: Option<Deadline>)
    -> Result<()>;

    /// Gives all ranks the bytes that rank `from`, which there is, has in `buffer`, as many on all ranks. By
    /// default that is a gather in which all ranks up to it have something; a transport that only has to
    /// move the bytes of one does so.
    ///
    /// # Errors
    ///
    /// Returns the errors of [`all_gather`](Self::all_gather).
    fn broadcast(&self, from: u32, buffer: &mut [u8], deadline: Option<Deadline>) -> Result<()> {
        let len = buffer.len();
        let start = (from as usize).saturating_mul(len);
        if start == 0 {
            // A buffer that is one chunk belongs to rank 0 alone.
            return self.all_gather(buffer, len, deadline);
        }
        let mut all = vec![0; start.saturating_add(len)];
        all[start..].copy_from_slice(buffer);
        self.all_gather(&mut all, len, deadline)?;
        buffer.copy_from_slice(&all[start..]);
        Ok(())
    }

    /// Sends bytes to one other rank, which [receives](Self::receive) what this one has sent to it in order.
    /// It need not wait for that; but a rank that is far ahead of another waits until that one has taken
    /// something, so that no rank decides how much memory another needs.
    ///
    /// A transport that carries no messages of this kind, which is the default, refuses.
    ///
    /// # Errors
    ///
    /// Returns the errors of [`all_gather`](Self::all_gather).
    fn send(&self, to: u32, bytes: &[u8], deadline: Option<Deadline>) -> Result<()> {
        let _ = (to, bytes, deadline);
        Err(no_messages(self.rank(), self.ranks()))
    }

    /// Replaces `into` by the next bytes that rank `from` has [sent](Self::send) to this one.
    ///
    /// # Errors
    ///
    /// Returns the errors of [`all_gather`](Self::all_gather); [`Error::RanksDisagree`](crate::Error::RanksDisagree)
    /// if they are more than `most`.
    fn receive(
        &self,
        from: u32,
        into: &mut Vec<u8>,
        most: usize,
        deadline: Option<Deadline>,
    ) -> Result<()> {
        let _ = (from, into, most, deadline);
        Err(no_messages(self.rank(), self.ranks()))
    }

    /// What this rank has exchanged with others so far; nothing if the transport does not count it.
    fn traffic(&self) -> Traffic {
        Traffic::default()
    }

    /// Waits until all ranks have finished what they compute together.
    ///
    /// Either all ranks return from it or none does, as far as the transport can know: a session
    /// whose rank returned has longer a sequence than one whose rank failed. Where a connection can
    /// break between the two, the ranks have to agree on the length of the sequence after a failure
    /// (`Session::truncate`) before they go on.
    ///
    /// # Errors
    ///
    /// Returns the errors of [`all_gather`](Self::all_gather).
    fn finish(&self, deadline: Option<Deadline>) -> Result<()>;

    /// Stops all ranks, unless one has failed before.
    fn fail(&self, failure: Failure);

    /// The first failure, if there is one.
    fn failure(&self) -> Option<Failure>;

    /// Forgets a failure, so that exchanges work again; does nothing if there is none, or if a rank
    /// is gone.
    ///
    /// # Errors
    ///
    /// [`Error::RankBusy`](crate::Error::RankBusy) while a rank is in a call or an exchange, and
    /// [`Error::RankStopped`](crate::Error::RankStopped) if the transport cannot begin anew.
    fn renew(&self) -> Result<()>;

    /// A call of a guest begins, in which exchanges may follow.
    fn enter(&self) {}

    /// The call has ended.
    fn exit(&self) {}
}

/// What a rank has exchanged with others.
///
/// ```
/// use polychord_runtime_api::ranks::Traffic;
///
/// assert_eq!(Traffic::default().sent_bytes, 0);
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Traffic {
    /// Messages that it has sent.
    pub messages: u64,
    /// Their bytes, with what is said about them.
    pub sent_bytes: u64,
    /// Bytes of messages that have come.
    pub received_bytes: u64,
    /// How long it has waited for others.
    pub waited: Duration,
}

fn no_messages(rank: u32, ranks: u32) -> Error {
    let reason = "its transport carries no messages from one rank to one other";
    Failure::new(rank, reason).into_error(ranks as usize)
}

/// When a call has to be over.
///
/// ```
/// use std::time::Duration;
///
/// use polychord_runtime_api::ranks::Deadline;
///
/// let deadline = Deadline::after(Duration::from_secs(1));
/// assert!(deadline.is_some_and(|deadline| deadline.limit.as_secs() == 1));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Deadline {
    /// The time.
    pub at: Instant,
    /// How long the call may take.
    pub limit: Duration,
}

/// Why a group was stopped.
///
/// ```
/// use std::time::Duration;
///
/// use polychord_runtime_api::ranks::Failure;
///
/// assert_eq!(Failure::new(2, "the network is down").limit, None);
/// let waited = Failure::waited(2, Duration::from_millis(500));
/// assert_eq!(waited.reason, "it waited for the others beyond 500 ms");
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Failure {
    /// The rank that failed first.
    pub rank: u32,
    /// Why it did.
    pub reason: String,
    /// The time limit of its call, if it took longer or has waited for others beyond it.
    pub limit: Option<Duration>,
}

impl Failure {
    /// A failure of a rank, for any reason but time.
    #[must_use]
    pub fn new(rank: u32, reason: impl fmt::Display) -> Self {
        Self { rank, reason: reason.to_string(), limit: None }
    }

    /// The failure of a rank that has waited for others beyond the limit of its call.
    #[must_use]
    pub fn waited(rank: u32, limit: Duration) -> Self {
        let reason = format!("it waited for the others beyond {} ms", limit.as_millis());
        Self { rank, reason, limit: Some(limit) }
    }

    /// The failure of a rank by an error of its own.
    pub(crate) fn by(rank: u32, error: &Error) -> Self {
        let limit = match error {
            Error::Trap { kind: TrapKind::DeadlineExceeded(limit), .. } => Some(*limit),
            Error::RankStopped { limit, .. } => *limit,
            _ => None,
        };
        Self { limit, ..Self::new(rank, error) }
    }

    /// What all ranks of a group of `ranks` are told.
    #[must_use]
    pub fn into_error(self, ranks: usize) -> Error {
        let Self { rank, reason, limit } = self;
        Error::RankStopped { rank: rank as usize, ranks, reason, limit }
    }
}

impl Deadline {
    /// The deadline of a call that begins now; none if the clock cannot express it.
    #[must_use]
    pub fn after(limit: Duration) -> Option<Self> {
        Some(Self { at: Instant::now().checked_add(limit)?, limit })
    }
}

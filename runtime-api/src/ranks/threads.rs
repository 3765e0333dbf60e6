//! Ranks that are threads of one process.

use std::collections::VecDeque;
use std::fmt;
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

use crate::ranks::barrier::Barrier;
use crate::ranks::transport::{Deadline, Failure, Transport};
use crate::{Error, Result};

/// The transport of a rank that is a thread: slots of memory that all ranks of a group share.
///
/// ```
/// use polychord_runtime_api::Rank;
/// use polychord_runtime_api::ranks::Threads;
///
/// let ranks = Threads::group(2)?.into_iter().map(Rank::over);
/// let ranks: Vec<_> = ranks.collect::<Result<_, _>>()?;
/// assert_eq!((ranks[1].index(), ranks[1].count()), (1, 2));
/// # Ok::<(), polychord_runtime_api::Error>(())
/// ```
pub struct Threads {
    group: Arc<Group>,
    rank: u32,
}

/// What all ranks share.
struct Group {
    barrier: Barrier,
    /// The number of the first one, where others of the group are elsewhere.
    first: u32,
    /// Two for each rank. Double-buffered: writers of turn n+1 never touch a slot that is read in
    /// turn n, and the barrier lets no rank be two turns ahead of another.
    slots: Box<[[RwLock<Slot>; 2]]>,
    /// What ranks have sent to single others, who have not taken it yet.
    mail: Mutex<Mail>,
}

/// What each rank has sent to each other one.
#[derive(Default)]
struct Mail(std::collections::BTreeMap<(u32, u32), VecDeque<Box<[u8]>>>);

/// What a rank publishes in a turn.
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

/// How many messages of a rank may wait for another one.
const WINDOW: usize = 64;

/// Most bytes that a rank publishes at once. Longer chunks take several turns, so that no guest
/// decides how much memory the host needs.
pub(super) const PIECE: usize = 128 << 10;

impl Threads {
    /// Most ranks of a group: far more than a machine has processors, and few enough that all
    /// have room for what they exchange.
    pub const MAX: usize = 1024;

    /// A group of `count` ranks in their order. It takes 256 KiB of memory for each, and no more
    /// later.
    ///
    /// # Errors
    ///
    /// [`Error::RankCount`] if `count` is 0 or beyond [`Threads::MAX`].
    pub fn group(count: usize) -> Result<Vec<Self>> {
        Self::group_from(0, count)
    }

    /// A group whose errors count from `first`.
    pub(super) fn group_from(first: u32, count: usize) -> Result<Vec<Self>> {
        let ranks = u32::try_from(count).ok().filter(|_| (1..=Self::MAX).contains(&count));
        let Some(ranks) = ranks else {
            return Err(Error::RankCount { asked: count, limit: Self::MAX });
        };
        let slots = (0..count).map(|_| [Slot::new(), Slot::new()]).collect();
        let group =
            Arc::new(Group { barrier: Barrier::new(count), first, slots, mail: Mutex::default() });
        Ok((0..ranks).map(|rank| Self { group: group.clone(), rank }).collect())
    }

    /// Its number among the threads here.
    pub(super) const fn local(&self) -> u32 {
        self.rank
    }

    fn index(&self) -> usize {
        self.rank as usize
    }

    /// Waits until there is what another rank sends or takes.
    fn wait_until(&self, deadline: Option<Deadline>, is_so: impl FnMut() -> bool) -> Result<()> {
        let done = self.group.barrier.wait_until(self.rank, deadline, is_so);
        done.map_err(|failure| failure.into_error(self.group.slots.len()))
    }

    /// The number of a thread in errors.
    fn number(&self, rank: u32) -> u32 {
        self.group.first.saturating_add(rank)
    }

    /// Stores what this rank has for the next turn.
    fn publish(&self, intent: Intent, bytes: &[u8]) -> u64 {
        let turn = self.group.barrier.turn();
        let slot = self.group.slot(self.index(), turn);
        let mut slot = slot.write().unwrap_or_else(PoisonError::into_inner);
        slot.intent = intent;
        slot.bytes[..bytes.len()].copy_from_slice(bytes);
        turn
    }

    /// Waits for all others, and hands out what they have published.
    fn wait(
        &self,
        turn: u64,
        own: Intent,
        deadline: Option<Deadline>,
        mut take: impl FnMut(usize, &[u8]),
    ) -> Result<()> {
        let ranks = self.group.slots.len();
        self.group
            .barrier
            .wait(turn, self.rank, deadline)
            .map_err(|failure| failure.into_error(ranks))?;
        for other in (0..ranks).filter(|other| *other != self.index()) {
            let slot = self.group.slot(other, turn);
            let slot = slot.read().unwrap_or_else(PoisonError::into_inner);
            if slot.intent != own {
                let [does, other_does] = [own, slot.intent].map(|intent| intent.to_string());
                let first = self.group.first as usize;
                let (rank, other) = (first + self.index(), first + other);
                return Err(Error::RanksDisagree { rank, does, other, other_does });
            }
            take(other, &slot.bytes);
        }
        Ok(())
    }
}

impl Transport for Threads {
    fn rank(&self) -> u32 {
        self.rank
    }

    fn ranks(&self) -> u32 {
        u32::try_from(self.group.slots.len()).unwrap_or(u32::MAX)
    }

    fn all_gather(
        &self,
        buffer: &mut [u8],
        chunk: usize,
        deadline: Option<Deadline>,
    ) -> Result<()> {
        let total = buffer.len();
        let intent = Intent::Gather { chunk: chunk as u64, total: total as u64 };
        let mut done = 0;
        loop {
            let own = piece(self.index(), chunk, done, total);
            let turn = self.publish(intent, &buffer[own]);
            self.wait(turn, intent, deadline, |rank, bytes| {
                let to = &mut buffer[piece(rank, chunk, done, total)];
                to.copy_from_slice(&bytes[..to.len()]);
            })?;
            done += PIECE;
            if done >= chunk {
                return Ok(());
            }
        }
    }

    fn finish(&self, deadline: Option<Deadline>) -> Result<()> {
        let turn = self.publish(Intent::Finish, &[]);
        self.wait(turn, Intent::Finish, deadline, |_, _| ())
    }

    fn fail(&self, failure: Failure) {
        self.group.barrier.fail(failure);
    }

    fn failure(&self) -> Option<Failure> {
        self.group.barrier.failure()
    }

    fn renew(&self) -> Result<()> {
        let ranks = self.group.slots.len();
        let forget = || self.group.mail().0.clear();
        self.group.barrier.renew(forget).map_err(|running| Error::RankBusy { running, ranks })
    }

    fn send(&self, to: u32, bytes: &[u8], deadline: Option<Deadline>) -> Result<()> {
        let key = (self.rank, to);
        let has_room =
            || self.group.mail().0.get(&key).is_none_or(|messages| messages.len() < WINDOW);
        self.wait_until(deadline, has_room)?;
        self.group.mail().0.entry(key).or_default().push_back(bytes.into());
        self.group.barrier.wake();
        Ok(())
    }

    fn receive(
        &self,
        from: u32,
        into: &mut Vec<u8>,
        most: usize,
        deadline: Option<Deadline>,
    ) -> Result<()> {
        let mut message = None;
        self.wait_until(deadline, || {
            let mut mail = self.group.mail();
            message = mail.0.get_mut(&(from, self.rank)).and_then(VecDeque::pop_front);
            message.is_some()
        })?;
        self.group.barrier.wake();
        let message = message.unwrap_or_default();
        if message.len() > most {
            let [rank, other] = [self.rank, from].map(|rank| self.number(rank) as usize);
            return Err(too_long(rank, most, other, message.len()));
        }
        into.clear();
        into.extend_from_slice(&message);
        Ok(())
    }

    fn enter(&self) {
        self.group.barrier.enter();
    }

    fn exit(&self) {
        self.group.barrier.exit();
    }
}

/// What rank `rank` exchanges of its chunk after `done` bytes of it.
fn piece(rank: usize, chunk: usize, done: usize, total: usize) -> Range<usize> {
    let at = |offset: usize| rank.saturating_mul(chunk).saturating_add(offset).min(total);
    at(done)..at(done.saturating_add(PIECE).min(chunk))
}

/// That a rank has sent more than another one takes.
pub(super) fn too_long(rank: usize, most: usize, other: usize, brings: usize) -> Error {
    let (does, other_does) =
        (format!("takes at most {most} bytes of a rank"), format!("brings {brings}"));
    Error::RanksDisagree { rank, does, other, other_does }
}

impl Group {
    fn mail(&self) -> MutexGuard<'_, Mail> {
        self.mail.lock().unwrap_or_else(PoisonError::into_inner)
    }

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

impl Drop for Threads {
    fn drop(&mut self) {
        self.group.barrier.leave(Failure::new(self.number(self.rank), "it is gone"));
    }
}

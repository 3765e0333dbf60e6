//! Threads of several processes as ranks of one group: threads within a process, anything between them.

use crate::ranks::threads::Threads;
use crate::ranks::transport::{Deadline, Failure, Traffic, Transport};
use crate::{Error, Result};

/// The transport of a thread whose group is in several processes, each with as many threads.
///
/// What ranks exchange is put together within each process first, so that one message carries what all of
/// its threads have; the first thread of each speaks for it.
pub(super) struct Within<T> {
    threads: Threads,
    /// How many threads this process has.
    count: u32,
    /// This process among the others.
    process: T,
    /// Its number.
    index: u32,
    processes: u32,
}

impl<T: AsRef<dyn Transport> + Clone + Send + Sync> Within<T> {
    /// The threads of a process, each with its own handle of how the process reaches the others.
    pub(super) fn group(process: &T, count: usize) -> Result<Vec<Self>> {
        let (index, processes) = (process.as_ref().rank(), process.as_ref().ranks());
        let limit = Threads::MAX;
        let all = (processes as usize).checked_mul(count);
        let counted = u32::try_from(count).ok().filter(|_| all.is_some_and(|all| all <= limit));
        let Some(counted) = counted else {
            return Err(Error::RankCount { asked: all.unwrap_or(usize::MAX), limit });
        };
        let threads = Threads::group_from(index.saturating_mul(counted), count)?.into_iter();
        let within = |threads| {
            let process = process.clone();
            Self { threads, count: counted, process, index, processes }
        };
        Ok(threads.map(within).collect())
    }

    fn speaks(&self) -> bool {
        self.threads.local() == 0
    }

    /// What the first thread does for all of this process; if it fails, none of them waits for it.
    fn for_all(&self, speak: impl FnOnce(&dyn Transport) -> Result<()>) -> Result<()> {
        if !self.speaks() {
            return Ok(());
        }
        speak(self.process.as_ref()).map_err(|error| {
            let error = self.of_all(error);
            let failure = match &error {
                Error::RankStopped { rank, reason, limit, .. } => {
                    let rank = u32::try_from(*rank).unwrap_or(u32::MAX);
                    Failure { rank, reason: reason.clone(), limit: *limit }
                }
                error => Failure::new(self.rank(), error),
            };
            self.threads.fail(failure);
            error
        })
    }

    /// An error about processes as one about ranks: the first thread of a process stands for it.
    fn of_all(&self, error: Error) -> Error {
        let first = |process: usize| process.saturating_mul(self.count as usize);
        match error {
            Error::RankStopped { rank, reason, limit, .. } => {
                let ranks = self.ranks() as usize;
                Error::RankStopped { rank: first(rank), ranks, reason, limit }
            }
            Error::RanksDisagree { rank, does, other, other_does } => {
                Error::RanksDisagree { rank: first(rank), does, other: first(other), other_does }
            }
            error => error,
        }
    }

    /// An error of the threads here, which know their numbers, but not how many there are elsewhere.
    fn here(&self, error: Error) -> Error {
        match error {
            Error::RankStopped { rank, reason, limit, .. } => {
                Error::RankStopped { rank, ranks: self.ranks() as usize, reason, limit }
            }
            error => error,
        }
    }
}

impl<T: AsRef<dyn Transport> + Clone + Send + Sync> Transport for Within<T> {
    fn rank(&self) -> u32 {
        self.index.saturating_mul(self.count).saturating_add(self.threads.local())
    }

    fn ranks(&self) -> u32 {
        self.processes.saturating_mul(self.count)
    }

    fn all_gather(
        &self,
        buffer: &mut [u8],
        chunk: usize,
        deadline: Option<Deadline>,
    ) -> Result<()> {
        let total = buffer.len();
        let all = chunk.saturating_mul(self.count as usize).min(total);
        let of = |process: usize| process.saturating_mul(all).min(total);
        let own = of(self.index as usize)..of(self.index as usize + 1);
        // What this process has, then what all have, then all of it for each thread here.
        self.threads
            .all_gather(&mut buffer[own], chunk, deadline)
            .map_err(|error| self.here(error))?;
        self.for_all(|process| process.all_gather(buffer, all, deadline))?;
        self.threads.all_gather(buffer, total, deadline).map_err(|error| self.here(error))
    }

    fn finish(&self, deadline: Option<Deadline>) -> Result<()> {
        self.threads.finish(deadline).map_err(|error| self.here(error))?;
        self.for_all(|process| process.finish(deadline))?;
        self.threads.finish(deadline).map_err(|error| self.here(error))
    }

    fn fail(&self, failure: Failure) {
        let reason = format!("its rank {} of all: {}", failure.rank, failure.reason);
        let failure_of_process = Failure { rank: self.index, reason, limit: failure.limit };
        self.threads.fail(failure);
        self.process.as_ref().fail(failure_of_process);
    }

    fn failure(&self) -> Option<Failure> {
        let elsewhere = || {
            let failure = self.process.as_ref().failure()?;
            Some(Failure { rank: failure.rank.saturating_mul(self.count), ..failure })
        };
        self.threads.failure().or_else(elsewhere)
    }

    fn renew(&self) -> Result<()> {
        self.process.as_ref().renew().map_err(|error| self.of_all(error))?;
        self.threads.renew().map_err(|error| self.here(error))
    }

    /// That of the process, which its first thread tells.
    fn traffic(&self) -> Traffic {
        if self.speaks() { self.process.as_ref().traffic() } else { Traffic::default() }
    }

    fn enter(&self) {
        self.threads.enter();
        if self.speaks() {
            self.process.as_ref().enter();
        }
    }

    fn exit(&self) {
        self.threads.exit();
        if self.speaks() {
            self.process.as_ref().exit();
        }
    }
}

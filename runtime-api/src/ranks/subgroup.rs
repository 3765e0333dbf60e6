//! Some ranks of a group as a group of their own.

use crate::ranks::transport::{Deadline, Failure, Traffic, Transport};
use crate::{Error, Result};

/// The transport of a rank among some of a larger group, by messages between any two of them.
pub(super) struct Subgroup<T> {
    all: T,
    /// Numbers in the larger group.
    members: Vec<u32>,
    index: usize,
}

impl<T: AsRef<dyn Transport> + Send + Sync> Subgroup<T> {
    pub(super) fn new(all: T, members: &[usize]) -> Result<Self> {
        let (own, ranks) = (all.as_ref().rank(), all.as_ref().ranks());
        let number = |rank: usize| {
            let number = u32::try_from(rank).ok().filter(|number| *number < ranks);
            number.ok_or(Error::RankNumber { rank, ranks: ranks as usize })
        };
        let members = members.iter().map(|rank| number(*rank)).collect::<Result<Vec<_>>>()?;
        let mut sorted = members.clone();
        sorted.sort_unstable();
        if let Some([twice, _]) = sorted.array_windows().find(|[first, next]| first == next) {
            return Err(Error::RankNumber { rank: *twice as usize, ranks: ranks as usize });
        }
        let index = members.iter().position(|member| *member == own);
        let index = index.ok_or(Error::RankNumber { rank: own as usize, ranks: members.len() })?;
        Ok(Self { all, members, index })
    }

    fn all(&self) -> &dyn Transport {
        self.all.as_ref()
    }

    /// The number of a member in the larger group.
    fn number(&self, member: usize) -> u32 {
        self.members.get(member).copied().unwrap_or(u32::MAX)
    }

    fn others(&self) -> impl Iterator<Item = usize> {
        let own = self.index;
        (0..self.members.len()).filter(move |member| *member != own)
    }

    /// Takes exactly as many bytes of a member as there is room for.
    fn take(
        &self,
        member: usize,
        message: &mut Vec<u8>,
        to: &mut [u8],
        deadline: Option<Deadline>,
    ) -> Result<()> {
        let from = self.number(member);
        self.all().receive(from, message, to.len(), deadline)?;
        if message.len() != to.len() {
            return Err(Error::RanksDisagree {
                rank: self.all().rank() as usize,
                does: format!("takes {} bytes", to.len()),
                other: from as usize,
                other_does: format!("brings {}", message.len()),
            });
        }
        to.copy_from_slice(message);
        Ok(())
    }
}

impl<T: AsRef<dyn Transport> + Send + Sync> Transport for Subgroup<T> {
    fn rank(&self) -> u32 {
        u32::try_from(self.index).unwrap_or(u32::MAX)
    }

    fn ranks(&self) -> u32 {
        u32::try_from(self.members.len()).unwrap_or(u32::MAX)
    }

    fn all_gather(
        &self,
        buffer: &mut [u8],
        chunk: usize,
        deadline: Option<Deadline>,
    ) -> Result<()> {
        let total = buffer.len();
        let part = |member: usize| {
            let at = |member: usize| member.saturating_mul(chunk).min(total);
            at(member)..at(member + 1)
        };
        for member in self.others() {
            self.all().send(self.number(member), &buffer[part(self.index)], deadline)?;
        }
        let mut message = Vec::new();
        for member in self.others() {
            self.take(member, &mut message, &mut buffer[part(member)], deadline)?;
        }
        Ok(())
    }

    fn broadcast(&self, from: u32, buffer: &mut [u8], deadline: Option<Deadline>) -> Result<()> {
        if from != self.rank() {
            return self.take(from as usize, &mut Vec::new(), buffer, deadline);
        }
        self.others().try_for_each(|member| self.all().send(self.number(member), buffer, deadline))
    }

    fn send(&self, to: u32, bytes: &[u8], deadline: Option<Deadline>) -> Result<()> {
        self.all().send(self.number(to as usize), bytes, deadline)
    }

    fn receive(
        &self,
        from: u32,
        into: &mut Vec<u8>,
        most: usize,
        deadline: Option<Deadline>,
    ) -> Result<()> {
        self.all().receive(self.number(from as usize), into, most, deadline)
    }

    fn finish(&self, deadline: Option<Deadline>) -> Result<()> {
        self.all_gather(&mut [], 0, deadline)
    }

    fn fail(&self, failure: Failure) {
        let rank = self.number(failure.rank as usize);
        self.all().fail(Failure { rank, ..failure });
    }

    /// A rank that is no member has a number that no member has.
    fn failure(&self) -> Option<Failure> {
        let failure = self.all().failure()?;
        let member = self.members.iter().position(|member| *member == failure.rank);
        let rank = member.and_then(|member| u32::try_from(member).ok()).unwrap_or(u32::MAX);
        Some(Failure { rank, ..failure })
    }

    fn renew(&self) -> Result<()> {
        self.all().renew()
    }

    fn traffic(&self) -> Traffic {
        self.all().traffic()
    }

    fn enter(&self) {
        self.all().enter();
    }

    fn exit(&self) {
        self.all().exit();
    }
}

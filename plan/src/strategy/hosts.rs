//! Dividing groups, in their order, over hosts by the memory that each of them has.

use super::inventory::Inventory;
use crate::plan::{Plan, invalid};
use crate::{Error, Result};

/// The hosts that share the layers of a model, each with a run of them.
///
/// ```
/// use polychord_plan::Hosts;
///
/// assert_eq!(Hosts::Equal(4).count(), 4);
/// assert_eq!(Hosts::OfBytes(vec![16 << 30, 32 << 30]).count(), 2);
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Hosts {
    /// As many hosts, each with as much as the others.
    Equal(usize),
    /// Hosts of these bytes of memory, each of which has room for what it is given.
    OfBytes(Vec<u64>),
}

/// Steps of the part of its memory that a host fills.
const WHOLE: u64 = 1 << 20;
/// Dividing takes time in proportion to their square.
const MOST_GROUPS: usize = 1024;

impl Hosts {
    /// How many there are.
    #[must_use]
    pub const fn count(&self) -> usize {
        match self {
            Self::Equal(count) => *count,
            Self::OfBytes(sizes) => sizes.len(),
        }
    }

    /// A plan in which hosts are filled as equally as runs of groups allow.
    ///
    /// `place` makes the plan of one host, of guests of `guest_limit` bytes at most, if there is a limit.
    pub(super) fn plan(
        &self,
        inventory: &Inventory,
        guest_limit: Option<u64>,
        place: impl Fn(&Inventory) -> Result<Plan>,
    ) -> Result<Plan> {
        let (groups, count) = (inventory.groups.len(), self.count());
        if count == 0 || count > groups {
            return Err(invalid(format!("{groups} parts cannot be divided over {count} hosts")));
        }
        if groups > MOST_GROUPS {
            let reason =
                format!("{groups} parts are divided over hosts, and {MOST_GROUPS} are the most");
            return Err(invalid(reason));
        }
        let runs = Runs { inventory, guest_limit };
        let all = runs.bytes(0..groups);
        let sizes = match self {
            Self::Equal(count) => vec![all; *count],
            Self::OfBytes(sizes) => sizes.clone(),
        };
        let mut rest = &inventory.groups[..];
        let mut plan = Plan::empty();
        for (host, count) in (0..).zip(runs.split(&sizes)?) {
            let (run, after) = rest.split_at(count);
            rest = after;
            let inventory = Inventory { groups: run.to_vec(), ..inventory.clone() };
            plan.append(place(&inventory)?, host);
        }
        Ok(plan)
    }
}

/// Runs of groups, and what they take on a host.
struct Runs<'a> {
    inventory: &'a Inventory,
    guest_limit: Option<u64>,
}

impl Runs<'_> {
    /// How many groups each host has, so that the fullest is as little filled as can be.
    fn split(&self, sizes: &[u64]) -> Result<Vec<usize>> {
        let (mut low, mut high) = (0, WHOLE);
        let Some(mut best) = self.fill(sizes, WHOLE) else { return Err(self.too_large(sizes)) };
        while low < high {
            let middle = low + (high - low) / 2;
            match self.fill(sizes, middle) {
                Some(counts) => (best, high) = (counts, middle),
                None => low = middle + 1,
            }
        }
        Ok(best)
    }

    /// How many groups each host has, if none fills more than a part of its memory; none if there is no way.
    fn fill(&self, sizes: &[u64], part: u64) -> Option<Vec<usize>> {
        let groups = self.inventory.groups.len();
        // For each host, where it may end, and from where.
        let mut ways: Vec<Vec<Option<usize>>> = Vec::with_capacity(sizes.len());
        let mut starts = vec![false; groups + 1];
        starts[0] = true;
        let (mut ends, mut of) = (Vec::new(), None);
        for size in sizes {
            let room = u128::from(*size) * u128::from(part) / u128::from(WHOLE);
            // Most hosts are alike.
            if of != Some(room) {
                ends = (0..groups).map(|start| self.longest(start, room)).collect();
                of = Some(room);
            }
            let mut way = vec![None; groups + 1];
            // Ends grow with starts, so that each place is looked at once.
            let mut next = 0;
            for start in (0..groups).filter(|start| starts[*start]) {
                let places = (start + 1).max(next)..(ends[start] + 1).max(next);
                next = places.end.max(next);
                if let Some(places) = way.get_mut(places) {
                    places.fill(Some(start));
                }
            }
            starts = way.iter().map(Option::is_some).collect();
            ways.push(way);
        }
        let mut at = groups;
        let back = |way: &Vec<Option<usize>>| {
            let start = way[at]?;
            let count = at - start;
            at = start;
            Some(count)
        };
        let mut counts = ways.iter().rev().map(back).collect::<Option<Vec<_>>>()?;
        counts.reverse();
        Some(counts)
    }

    /// The end of the longest run from a group on that a host has room for.
    fn longest(&self, start: usize, room: u128) -> usize {
        let (mut run, mut end) = (Run::default(), start);
        while end < self.inventory.groups.len() {
            run.add(self, end);
            if u128::from(run.bytes(self)) > room {
                break;
            }
            end += 1;
        }
        end
    }

    /// What some groups take on a host.
    fn bytes(&self, groups: std::ops::Range<usize>) -> u64 {
        let mut run = Run::default();
        groups.for_each(|group| run.add(self, group));
        run.bytes(self)
    }

    fn too_large(&self, sizes: &[u64]) -> Error {
        let groups = self.inventory.groups.len();
        let (asked, all) =
            (self.bytes(0..groups), |sum: u64, size: &u64| sum.saturating_add(*size));
        let largest = (0..groups).map(|group| self.bytes(group..group + 1)).max().unwrap_or(0);
        Error::TooLarge {
            what: format!(
                "a model of {groups} parts, the largest of {largest} bytes, with its guests on {} hosts,",
                sizes.len()
            ),
            asked,
            limit: sizes.iter().fold(0, all),
            limited_by: "the memory of all hosts (--host-memory)".into(),
        }
    }
}

/// Groups of one host, as they are added one by one.
#[derive(Clone, Copy, Default)]
struct Run {
    groups: u64,
    guests: u64,
    /// Of the last guest.
    in_guest: u64,
}

impl Run {
    fn add(&mut self, runs: &Runs<'_>, group: usize) {
        let bytes = runs.inventory.groups[group].bytes();
        let fixed = runs.inventory.each_guest();
        let full = self.in_guest.saturating_add(bytes).saturating_add(fixed);
        let is_full = runs.guest_limit.is_some_and(|limit| full > limit);
        if self.guests == 0 || is_full {
            (self.guests, self.in_guest) = (self.guests + 1, 0);
        }
        self.in_guest = self.in_guest.saturating_add(bytes);
        self.groups = self.groups.saturating_add(bytes);
    }

    fn bytes(&self, runs: &Runs<'_>) -> u64 {
        self.groups.saturating_add(self.guests.saturating_mul(runs.inventory.each_guest()))
    }
}

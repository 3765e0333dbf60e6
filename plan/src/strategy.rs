//! Ways to make a plan of an inventory.
//!
//! - `inventory`: what is to be placed.
//! - `split`: dividing sizes over parts; `hosts`: dividing groups over hosts by their memory.

mod hosts;
mod inventory;
mod split;
#[cfg(test)]
mod tests;

pub use self::hosts::Hosts;
use self::inventory::MAX_GROUPS;
pub use self::inventory::{Group, Inventory};
use self::split::{first_fit, split};
use crate::plan::{Plan, PlannedMemory, invalid};
use crate::range::PAGE;
use crate::{Error, Result};

/// How layers are spread over guests and their memories.
///
/// ```
/// use polychord_plan::{Group, Guests, Inventory, LayerId, SourceRange, Strategy};
///
/// let block = |id| {
///     let layer = SourceRange::new(LayerId(id), format!("blk.{id}"), 0, 100_000);
///     Group::new("weights", [layer]).cache(65_536)
/// };
/// let inventory = Inventory::new([block(0), block(1)]).overhead(1 << 20);
/// let plan = Strategy::CacheApart(Guests::Exactly(2)).plan(&inventory)?;
/// assert_eq!((plan.guests(), plan.memories.len()), (2, 4));
/// # Ok::<(), polychord_plan::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Strategy {
    /// Contiguous runs of groups, one memory for each guest.
    ByLayer(Guests),
    /// One guest, with a memory for each group and one for the cache: for groups that are
    /// kinds of tensors.
    ByKind,
    /// One guest, with contiguous runs of groups in as few memories of at most `memory_bytes` as
    /// hold them, and one more memory for the cache.
    OneGuest {
        /// Most bytes of a memory.
        memory_bytes: u64,
    },
    /// Contiguous runs of groups, with the cache of each guest in a second memory.
    CacheApart(Guests),
    /// Contiguous runs of groups, in windows that are smaller than all layers of a guest.
    Paged {
        /// How many guests; their size counts the windows.
        guests: Guests,
        /// Bytes of all windows together; each guest gets its share.
        resident_bytes: u64,
    },
}

/// How many guests share the layers.
///
/// ```
/// # use polychord_plan::{Group, Guests, Inventory, LayerId, SourceRange, Strategy};
/// # let block = |id| Group::new("weights", [SourceRange::new(LayerId(id), "blk", 0, 100_000)]);
/// # let inventory = Inventory::new([block(0), block(1)]);
/// // As few guests as hold two blocks, of 128 KiB each.
/// let plan = Strategy::ByLayer(Guests::OfBytes(256 << 10)).plan(&inventory)?;
/// assert_eq!(plan.guests(), 1);
/// # Ok::<(), polychord_plan::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Guests {
    /// Exactly this many guests; the largest of them is as small as it can be.
    Exactly(usize),
    /// As few guests as fit, each at most this large in bytes, counting all that it needs; their
    /// sizes are then as equal as they can be.
    OfBytes(u64),
}

impl Strategy {
    /// Most groups of an inventory; the largest known models have some 130 blocks.
    pub const MAX_GROUPS: usize = MAX_GROUPS;

    /// Makes a plan, the same one for the same input.
    ///
    /// # Errors
    ///
    /// [`Error::TooLarge`] if a group alone is larger than a guest may be,
    /// [`Error::InvalidPlan`] if there are fewer groups than guests or no guests, if a layer
    /// has no bytes or is larger than its window, a number comes twice, a memory would be
    /// larger than it can be, or there are more than [`MAX_GROUPS`](Self::MAX_GROUPS) or
    /// [`Plan::MAX_LAYERS`].
    pub fn plan(&self, inventory: &Inventory) -> Result<Plan> {
        inventory.check_counts(1)?;
        let plan = match *self {
            Self::ByLayer(guests) => by_layer(inventory, guests.count(inventory)?, false)?,
            Self::CacheApart(guests) => by_layer(inventory, guests.count(inventory)?, true)?,
            Self::ByKind => by_kind(inventory)?,
            Self::OneGuest { memory_bytes } => one_guest(inventory, memory_bytes)?,
            Self::Paged { guests, resident_bytes } => paged(inventory, guests, resident_bytes)?,
        };
        plan.validate()?;
        Ok(plan)
    }
}

impl Strategy {
    /// Makes a plan for several hosts, in order: each has a run of the groups, as large as its memory is
    /// among all, and this strategy places that run in guests of its own.
    ///
    /// ```
    /// use polychord_plan::{Group, Guests, Hosts, Inventory, LayerId, SourceRange, Strategy};
    ///
    /// let block = |id| Group::new("weights", [SourceRange::new(LayerId(id), "blk", 0, 65_536)]);
    /// let inventory = Inventory::new((0..3).map(block));
    /// // The second has twice the memory of the first.
    /// let hosts = Hosts::OfBytes(vec![100_000, 200_000]);
    /// let plan = Strategy::ByLayer(Guests::OfBytes(65_536)).plan_on(&inventory, &hosts)?;
    /// assert_eq!(plan.hosts, [0, 1, 1]);
    /// # Ok::<(), polychord_plan::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// The errors of [`plan`](Self::plan); [`Error::TooLarge`] if hosts have not the memory, and
    /// [`Error::InvalidPlan`] if there are none or more than groups.
    pub fn plan_on(&self, inventory: &Inventory, hosts: &Hosts) -> Result<Plan> {
        inventory.check_counts(1)?;
        let plan = hosts.plan(inventory, self.guest_limit(), |run| self.plan(run))?;
        plan.validate()?;
        Ok(plan)
    }

    /// Most bytes of each guest, if that is what it is asked for.
    const fn guest_limit(&self) -> Option<u64> {
        match *self {
            Self::ByLayer(Guests::OfBytes(limit)) | Self::CacheApart(Guests::OfBytes(limit)) => {
                Some(limit)
            }
            _ => None,
        }
    }
}

impl Guests {
    fn count(self, inventory: &Inventory) -> Result<usize> {
        let limit = match self {
            Self::Exactly(count) => return Ok(count),
            Self::OfBytes(limit) => limit,
        };
        let fixed = inventory.each_guest();
        let sizes: Vec<_> = inventory.groups.iter().map(Group::bytes).collect();
        let room = limit.saturating_sub(fixed);
        let too_large = |(group, size): (&Group, &u64)| Error::TooLarge {
            what: format!("a guest with {} alone", group.name()),
            asked: size.saturating_add(fixed),
            limit,
            limited_by: "the size that a guest may have".into(),
        };
        match inventory.groups.iter().zip(&sizes).find(|(_, size)| **size > room) {
            Some(first) => Err(too_large(first)),
            None => Ok(first_fit(&sizes, 1, room).len()),
        }
    }
}

/// Contiguous runs of groups, one for each guest.
fn runs(groups: &[Group], guests: usize) -> Result<Vec<&[Group]>> {
    if guests == 0 || guests > groups.len() {
        return Err(invalid(format!("{} parts cannot fill {guests} guests", groups.len())));
    }
    let sizes: Vec<_> = groups.iter().map(Group::bytes).collect();
    let mut rest = groups;
    let cut = |count| {
        let (run, after) = rest.split_at(count);
        rest = after;
        run
    };
    Ok(split(&sizes, guests).into_iter().map(cut).collect())
}

fn by_layer(inventory: &Inventory, guests: usize, cache_apart: bool) -> Result<Plan> {
    inventory.check_counts(guests)?;
    let mut plan = Plan::empty();
    for (guest, run) in (0..).zip(runs(&inventory.groups, guests)?) {
        let layers = run.iter().flat_map(|group| &group.layers).chain(&inventory.replicated);
        plan.push(guest, PlannedMemory::WEIGHTS, layers.cloned())?;
        if cache_apart && cache(run) > 0 {
            plan.push_empty(guest, PlannedMemory::KV, cache(run))?;
        }
    }
    Ok(plan)
}

/// Keys and values for groups, in bytes.
fn cache(groups: &[Group]) -> u64 {
    groups.iter().fold(0, |sum: u64, group| sum.saturating_add(group.cache))
}

fn by_kind(inventory: &Inventory) -> Result<Plan> {
    let mut plan = Plan::empty();
    for group in &inventory.groups {
        plan.push(0, &group.region, group.layers.iter().cloned())?;
    }
    if !inventory.replicated.is_empty() {
        plan.push(0, PlannedMemory::WEIGHTS, inventory.replicated.iter().cloned())?;
    }
    if cache(&inventory.groups) > 0 {
        plan.push_empty(0, PlannedMemory::KV, cache(&inventory.groups))?;
    }
    Ok(plan)
}

fn one_guest(inventory: &Inventory, memory_bytes: u64) -> Result<Plan> {
    let mut groups = inventory.groups.clone();
    let cache = cache(&groups);
    groups.iter_mut().for_each(|group| group.cache = 0);
    // One guest has one copy, in its first memory.
    if let Some(first) = groups.first_mut() {
        first.layers.extend(inventory.replicated.iter().cloned());
    }
    let apart = Inventory { groups, replicated: Vec::new(), overhead: 0 };
    let memories = Guests::OfBytes(memory_bytes).count(&apart)?;
    let mut plan = Plan::empty();
    for run in runs(&apart.groups, memories)? {
        let layers = run.iter().flat_map(|group| &group.layers);
        plan.push(0, PlannedMemory::WEIGHTS, layers.cloned())?;
    }
    if cache > 0 {
        plan.push_empty(0, PlannedMemory::KV, cache)?;
    }
    Ok(plan)
}

/// The fewest guests that have room for their windows and caches, or exactly the number asked for.
fn paged(inventory: &Inventory, guests: Guests, resident_bytes: u64) -> Result<Plan> {
    let sized = |count| {
        let plan = with_windows(by_layer(inventory, count, false)?, resident_bytes);
        let size = largest_guest(inventory, &plan)?;
        Ok((plan, size))
    };
    let limit = match guests {
        Guests::Exactly(count) => return Ok(sized(count)?.0),
        Guests::OfBytes(limit) => limit,
    };
    // No less than the first count are needed, and the second is tried next: one more, but for
    // many guests twice as many, so that many groups are no reason to make many plans.
    let (mut least, mut count) = (1, 1);
    let (mut plan, mut size) = sized(count)?;
    while size > limit {
        if count == inventory.groups.len() {
            return Err(Error::TooLarge {
                what: format!("the largest of {count} guests with its window and its cache"),
                asked: size,
                limit,
                limited_by: "the size that a guest may have".into(),
            });
        }
        least = count + 1;
        count = if count < FEW { least } else { (2 * count).min(inventory.groups.len()) };
        (plan, size) = sized(count)?;
    }
    while least < count {
        let middle = least.midpoint(count);
        match sized(middle)? {
            (smaller, size) if size <= limit => (plan, count) = (smaller, middle),
            _ => least = middle + 1,
        }
    }
    Ok(plan)
}

/// How many guests are tried one by one.
const FEW: usize = 16;

/// Makes each memory that is larger than its share a window of that size.
fn with_windows(mut plan: Plan, resident_bytes: u64) -> Plan {
    let total: u64 = plan.memories.iter().map(|memory| memory.bytes).sum();
    for memory in &mut plan.memories {
        let share =
            u128::from(resident_bytes) * u128::from(memory.bytes) / u128::from(total.max(1));
        let window = u64::try_from(share).unwrap_or(u64::MAX);
        let window = window - window % PAGE;
        if window < memory.bytes {
            memory.bytes = window;
            memory.paged = true;
        }
    }
    plan
}

/// The bytes of the guest that needs most, for a plan with one memory for each guest.
fn largest_guest(inventory: &Inventory, plan: &Plan) -> Result<u64> {
    let runs = runs(&inventory.groups, plan.memories.len())?;
    let sizes = plan.memories.iter().zip(runs).map(|(memory, run)| {
        memory.bytes.saturating_add(cache(run)).saturating_add(inventory.overhead)
    });
    Ok(sizes.max().unwrap_or(0))
}

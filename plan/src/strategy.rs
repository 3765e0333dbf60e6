//! Ways to make a plan of an inventory.

use crate::layer::SourceRange;
use crate::plan::{Plan, PlannedMemory, invalid};
use crate::range::PAGE;
use crate::{Error, Result};

/// How layers are spread over guests and their memories.
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
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Guests {
    /// Exactly this many guests; the largest of them is as small as it can be.
    Exactly(usize),
    /// As few guests as fit, each at most this large in bytes, counting all that it needs; their
    /// sizes are then as equal as they can be.
    OfBytes(u64),
}

/// What is to be placed.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Inventory {
    /// Layers that cannot be apart, in the order in which they are used.
    pub groups: Vec<Group>,
    /// Layers that each guest has a copy of.
    pub replicated: Vec<SourceRange>,
    /// Bytes that each guest needs beside its layers and caches: activations, for example.
    pub overhead: u64,
}

/// Layers that must share a guest.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Group {
    /// What the layers are for; names their memory where each group has its own.
    pub region: String,
    /// The layers, in the order in which they are used.
    pub layers: Vec<SourceRange>,
    /// Keys and values for these layers, in bytes.
    pub cache: u64,
}

impl Strategy {
    /// Most groups of an inventory; the largest known models have some 130 blocks.
    pub const MAX_GROUPS: usize = 1 << 16;

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

impl Inventory {
    /// Groups to be placed, in the order in which they are used, and nothing else.
    #[must_use]
    pub fn new(groups: impl IntoIterator<Item = Group>) -> Self {
        Self { groups: groups.into_iter().collect(), replicated: Vec::new(), overhead: 0 }
    }

    /// Sets the layers that each guest has a copy of.
    #[must_use]
    pub fn replicated(mut self, layers: impl IntoIterator<Item = SourceRange>) -> Self {
        self.replicated = layers.into_iter().collect();
        self
    }

    /// Sets the bytes that each guest needs beside its layers and caches.
    #[must_use]
    pub const fn overhead(mut self, bytes: u64) -> Self {
        self.overhead = bytes;
        self
    }

    /// Refuses what no model can need, before anything is made of it: each guest has a copy of
    /// the layers that are everywhere.
    fn check_counts(&self, guests: usize) -> Result<()> {
        let (groups, most) = (self.groups.len(), Strategy::MAX_GROUPS);
        if groups > most {
            return Err(invalid(format!("there are {groups} parts, and {most} are the most")));
        }
        let copies = self.replicated.len().saturating_mul(guests);
        let layers = self.groups.iter().map(|group| group.layers.len());
        let (layers, most) = (layers.fold(copies, usize::saturating_add), Plan::MAX_LAYERS);
        if layers > most {
            return Err(invalid(format!("there are {layers} layers, and {most} are the most")));
        }
        Ok(())
    }

    /// What each guest needs beside its groups, in bytes.
    fn each_guest(&self) -> u64 {
        self.replicated.iter().map(paged_bytes).fold(self.overhead, u64::saturating_add)
    }
}

impl Group {
    /// Layers for a region, without a cache.
    #[must_use]
    pub fn new(region: impl Into<String>, layers: impl IntoIterator<Item = SourceRange>) -> Self {
        Self { region: region.into(), layers: layers.into_iter().collect(), cache: 0 }
    }

    /// Sets the bytes of keys and values for the layers.
    #[must_use]
    pub const fn cache(mut self, bytes: u64) -> Self {
        self.cache = bytes;
        self
    }

    /// Room for the group in bytes, each layer in pages of its own.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.layers.iter().map(paged_bytes).fold(self.cache, u64::saturating_add)
    }

    fn name(&self) -> &str {
        self.layers.first().map_or(&self.region, |layer| &layer.name)
    }
}

/// Bytes of the pages that a layer touches.
fn paged_bytes(layer: &SourceRange) -> u64 {
    let end = (layer.start % PAGE).saturating_add(layer.bytes);
    end.checked_next_multiple_of(PAGE).unwrap_or(u64::MAX)
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

/// The fewest guests that have room for their windows and caches, or just as many as asked for.
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

/// How many of the items go into each part, in order, so that the largest sum is least.
/// Needs at least as many items as parts.
fn split(sizes: &[u64], parts: usize) -> Vec<usize> {
    let total = sizes.iter().fold(0_u64, |sum, size| sum.saturating_add(*size));
    let (mut low, mut high) = (sizes.iter().copied().max().unwrap_or(0), total);
    // The least capacity with which a first fit needs no more than the parts.
    while low < high {
        let capacity = low + (high - low) / 2;
        if first_fit(sizes, parts, capacity).len() <= parts {
            high = capacity;
        } else {
            low = capacity + 1;
        }
    }
    first_fit(sizes, parts, low)
}

/// Fills one part after the other up to a capacity, but leaves an item for each later part.
fn first_fit(sizes: &[u64], parts: usize, capacity: u64) -> Vec<usize> {
    let mut counts = Vec::new();
    let (mut count, mut sum) = (0, 0_u64);
    for (index, size) in sizes.iter().enumerate() {
        let needed_later = parts.saturating_sub(counts.len() + 1);
        let must_leave = sizes.len() - index <= needed_later;
        if count > 0 && (must_leave || sum.saturating_add(*size) > capacity) {
            counts.push(count);
            (count, sum) = (0, 0);
        }
        count += 1;
        sum = sum.saturating_add(*size);
    }
    counts.push(count);
    counts
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    // Both globs have one.
    use super::Strategy;
    use super::*;
    use crate::LayerId;

    /// Groups of one layer each, with so many pages and some of cache.
    fn inventory(sizes: &[(u64, u64)]) -> Inventory {
        let group = |(id, (pages, cache)): (u32, &(u64, u64))| Group {
            region: format!("kind {id}"),
            layers: vec![SourceRange {
                id: LayerId(id),
                name: format!("layer {id}"),
                start: 0,
                bytes: pages * PAGE,
            }],
            cache: cache * PAGE,
        };
        let groups = (0..).zip(sizes).map(group).collect();
        Inventory { groups, replicated: Vec::new(), overhead: PAGE }
    }

    fn weights(sizes: &[u64]) -> Inventory {
        inventory(&sizes.iter().map(|pages| (*pages, 0)).collect::<Vec<_>>())
    }

    fn pages(plan: &Plan) -> Vec<u64> {
        plan.memories.iter().map(|memory| memory.bytes / PAGE).collect()
    }

    fn regions(plan: &Plan) -> Vec<(u32, &str)> {
        plan.memories.iter().map(|memory| (memory.guest, &*memory.region)).collect()
    }

    #[test]
    fn caches_and_kinds_get_memories_of_their_own() {
        let mut inventory = inventory(&[(3, 0), (1, 2), (2, 2)]);
        let plan = Strategy::CacheApart(Guests::Exactly(2)).plan(&inventory).unwrap();
        assert_eq!(regions(&plan), [(0, "weights"), (0, "kv"), (1, "weights"), (1, "kv")]);
        assert_eq!(pages(&plan), [4, 2, 2, 2]);
        assert_eq!((plan.guests(), plan.memories_of(1).count()), (2, 2));
        inventory.replicated =
            vec![SourceRange { id: LayerId(9), name: "everywhere".into(), start: 5, bytes: 1 }];
        let plan = Strategy::ByKind.plan(&inventory).unwrap();
        let expected = [(0, "kind 0"), (0, "kind 1"), (0, "kind 2"), (0, "weights"), (0, "kv")];
        assert_eq!(regions(&plan), expected);
        assert_eq!(pages(&plan), [3, 1, 2, 1, 4]);
        let plan = Strategy::ByLayer(Guests::Exactly(3)).plan(&inventory).unwrap();
        assert_eq!(plan.layers.iter().filter(|it| it.source.id == LayerId(9)).count(), 3);
    }

    #[test]
    fn one_guest_has_as_few_memories_as_hold_the_layers() {
        let mut inventory = inventory(&[(3, 0), (1, 2), (2, 2)]);
        let plan = |inventory: &Inventory, pages: u64| {
            Strategy::OneGuest { memory_bytes: pages * PAGE }.plan(inventory)
        };
        let all = plan(&inventory, 6).unwrap();
        assert_eq!(regions(&all), [(0, "weights"), (0, "kv")]);
        assert_eq!(pages(&all), [6, 4]);
        inventory.replicated =
            vec![SourceRange { id: LayerId(9), name: "everywhere".into(), start: 5, bytes: 1 }];
        let parts = plan(&inventory, 4).unwrap();
        assert_eq!(pages(&parts), [4, 3, 4]);
        assert_eq!(parts.layers.iter().filter(|it| it.source.id == LayerId(9)).count(), 1);
        assert!(plan(&inventory, 3).is_err());
    }

    #[test]
    fn as_few_guests_as_a_size_needs() {
        let inventory = inventory(&[(3, 0), (1, 2), (2, 2), (4, 1)]);
        let count = |pages: u64| {
            let strategy = Strategy::ByLayer(Guests::OfBytes(pages * PAGE));
            strategy.plan(&inventory).map(|plan| plan.guests())
        };
        assert_eq!(count(16).unwrap(), 1);
        assert_eq!(count(15).unwrap(), 2);
        assert_eq!(count(10).unwrap(), 2);
        assert_eq!(count(9).unwrap(), 3);
        let error = count(5).unwrap_err().to_string();
        assert!(error.contains("layer 3") && error.contains(&(6 * PAGE).to_string()), "{error}");
    }

    #[test]
    fn a_window_holds_each_layer_but_not_all() {
        let paged = |pages: u64, guests| {
            let strategy = Strategy::Paged { guests, resident_bytes: pages * PAGE + 7 };
            strategy.plan(&weights(&[3, 1, 2, 2, 2]))
        };
        let plan = paged(8, Guests::Exactly(2)).unwrap();
        assert_eq!(pages(&plan), [4, 3]);
        assert!(plan.memories.iter().all(|memory| memory.paged));
        assert!(paged(4, Guests::Exactly(2)).is_err(), "a layer is larger than its window");
        let plan = paged(10, Guests::Exactly(2)).unwrap();
        assert_eq!((pages(&plan), plan.memories[0].paged), (vec![6, 4], false));
        // Windows and what stands beside them count.
        assert_eq!(paged(8, Guests::OfBytes(9 * PAGE)).unwrap().guests(), 1);
        let error = paged(10, Guests::OfBytes(2 * PAGE)).unwrap_err().to_string();
        assert!(error.contains("5 guests"), "{error}");
    }

    #[test]
    fn windows_of_many_guests_are_as_few_as_can_be() {
        let inventory = inventory(&[(1, 1); 300]);
        for fits in [1, 15, 16, 17, 18, 33, 77, 150, 299] {
            // What a guest of that many has: a window, a cache, and what stands beside them.
            let groups = 300_u64.div_ceil(fits);
            let limit = (groups + groups + 1) * PAGE;
            let strategy =
                Strategy::Paged { guests: Guests::OfBytes(limit), resident_bytes: 300 * PAGE };
            let plan = strategy.plan(&inventory).unwrap();
            let expected = 300_u64.div_ceil(groups);
            assert_eq!(u64::from(plan.guests()), expected, "{fits}");
        }
    }

    #[test]
    fn many_groups_are_planned_at_once_or_refused() {
        let group = Group { region: "a".into(), layers: Vec::new(), cache: PAGE };
        let many = |count| Inventory {
            groups: (0..count)
                .map(|id| {
                    let id = LayerId(u32::try_from(id).unwrap());
                    let layer = SourceRange { id, name: format!("{id:?}"), start: 0, bytes: 1 };
                    Group { layers: vec![layer], ..group.clone() }
                })
                .collect(),
            replicated: Vec::new(),
            overhead: 0,
        };
        let start = std::time::Instant::now();
        for strategy in [
            Strategy::ByKind,
            Strategy::ByLayer(Guests::OfBytes(2 * PAGE)),
            Strategy::CacheApart(Guests::OfBytes(4 * PAGE)),
            Strategy::OneGuest { memory_bytes: PAGE },
            Strategy::Paged { guests: Guests::OfBytes(PAGE), resident_bytes: 1 << 40 },
        ] {
            let plan = strategy.plan(&many(Strategy::MAX_GROUPS));
            assert_eq!(plan.is_ok(), !matches!(strategy, Strategy::Paged { .. }), "{strategy:?}");
            let error = strategy.plan(&many(1_000_000)).unwrap_err().to_string();
            assert!(error.contains("1000000 parts, and 65536 are the most"), "{error}");
        }
        assert!(start.elapsed().as_secs() < 60, "{:?}", start.elapsed());
        // A few layers in each of many guests are many, too.
        let mut copied = many(60_000);
        copied.replicated = copied.groups[..20].iter().map(|it| it.layers[0].clone()).collect();
        let error = Strategy::ByLayer(Guests::Exactly(60_000)).plan(&copied).unwrap_err();
        assert!(error.to_string().contains("1260000 layers"), "{error}");
    }

    /// The least largest sum, by trying every way to split.
    fn best(sizes: &[u64], parts: usize) -> u64 {
        if parts == 1 {
            return sizes.iter().sum();
        }
        let cut = |at: usize| sizes[..at].iter().sum::<u64>().max(best(&sizes[at..], parts - 1));
        (1..=sizes.len() + 1 - parts).map(cut).min().unwrap()
    }

    proptest! {
        /// The largest memory is as small as any split in order makes it, and none is empty.
        #[test]
        fn the_largest_memory_is_least(sizes in prop::collection::vec(1_u64..100, 1..12), guests in 1_usize..6) {
            let plan = Strategy::ByLayer(Guests::Exactly(guests)).plan(&weights(&sizes));
            if guests > sizes.len() {
                prop_assert!(plan.is_err());
                return Ok(());
            }
            let plan = plan.unwrap();
            prop_assert_eq!(plan.memories.len(), guests);
            prop_assert_eq!(pages(&plan).into_iter().max(), Some(best(&sizes, guests)));
            prop_assert!(plan.memories.iter().all(|memory| memory.bytes > 0));
            prop_assert!(plan.layers.windows(2).all(|pair| pair[0].memory <= pair[1].memory));
        }

        /// No guest is larger than it may be, and one guest less would not do.
        #[test]
        fn guests_of_a_size_are_as_few_as_can_be(
            sizes in prop::collection::vec((1_u64..50, 0_u64..50), 1..12),
            room in 100_u64..600,
        ) {
            let inventory = inventory(&sizes);
            let plan = Strategy::ByLayer(Guests::OfBytes((room + 1) * PAGE)).plan(&inventory).unwrap();
            let all: Vec<_> = sizes.iter().map(|(pages, cache)| pages + cache).collect();
            let guests = plan.memories.len();
            prop_assert!(best(&all, guests) <= room);
            prop_assert!(guests == 1 || best(&all, guests - 1) > room);
        }
    }
}

//! Tests of strategies.

use proptest::prelude::*;

// Both globs have one.
use super::Strategy;
use super::*;
use crate::{LayerId, SourceRange};

/// Groups of one layer each, of these sizes: pages of weights, and of cache.
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

#[test]
fn hosts_have_as_much_as_their_memory() {
    let guests = Strategy::ByLayer(Guests::OfBytes(4 * PAGE));
    let plan = |sizes: &[u64], hosts: &Hosts| guests.plan_on(&weights(sizes), hosts);
    let equal = plan(&[1, 1, 1, 1, 1, 1], &Hosts::Equal(3)).unwrap();
    assert_eq!((equal.host_count(), &equal.hosts[..]), (3, &[0, 1, 2][..]));
    // Three pages of weights for each guest, and one beside them.
    let pages = |sizes: &[u64]| Hosts::OfBytes(sizes.iter().map(|size| size * PAGE).collect());
    let plan_of = plan(&[2, 2, 2, 2, 2, 2], &pages(&[6, 20])).unwrap();
    let on = |host| plan_of.hosts.iter().filter(|it| **it == host).count();
    assert_eq!((on(0), on(1)), (1, 5));
    assert!(plan_of.memories.iter().all(|memory| memory.bytes <= 3 * PAGE));
    let numbers: Vec<_> = plan_of.layers.iter().map(|layer| layer.source.id.0).collect();
    assert_eq!(numbers, [0, 1, 2, 3, 4, 5]);
    // What is beside weights counts for each guest.
    let error = plan(&[2, 2, 2, 2], &pages(&[6, 5])).unwrap_err().to_string();
    assert!(error.contains("--host-memory") && error.contains(&(12 * PAGE).to_string()), "{error}");
    assert!(plan(&[2, 2, 2, 2], &pages(&[6, 6])).is_ok());
    for hosts in [Hosts::Equal(0), Hosts::Equal(5), Hosts::OfBytes(vec![]), Hosts::Equal(1 << 40)] {
        let error = plan(&[2, 2, 2, 2], &hosts).unwrap_err().to_string();
        assert!(error.contains("4 parts cannot be divided over"), "{error}");
    }
    let all = Hosts::OfBytes(vec![u64::MAX; 3]);
    assert_eq!(plan(&[1, 1, 1], &all).unwrap().host_count(), 3);
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

    /// No other runs leave the fullest host less filled, as far as a millionth of it can be told.
    #[test]
    fn the_fullest_host_is_as_little_filled_as_can_be(
        sizes in prop::collection::vec(1_u64..60, 1..9),
        memory in prop::collection::vec(100_u64..1000, 1..4),
    ) {
        let bytes: Vec<_> = memory.iter().map(|pages| pages * PAGE).collect();
        let hosts = Hosts::OfBytes(bytes);
        let plan = Strategy::ByLayer(Guests::Exactly(1)).plan_on(&weights(&sizes), &hosts);
        if memory.len() > sizes.len() {
            prop_assert!(plan.is_err());
            return Ok(());
        }
        // A page beside the weights of each.
        let filled = |pages: u64, host: usize| (pages + 1) as f64 / memory[host] as f64;
        let best = fullest(&sizes, 0, memory.len(), &filled);
        match plan {
            Ok(plan) => {
                let fullest = pages(&plan).into_iter().enumerate();
                let fullest = fullest.map(|(host, pages)| filled(pages, host)).fold(0.0, f64::max);
                prop_assert!(fullest <= best + 2e-6, "{fullest} {best}");
            }
            Err(_) => prop_assert!(best > 1.0 - 2e-6),
        }
    }
}

/// The least filling of the fullest host, by trying every way to split.
fn fullest(sizes: &[u64], host: usize, hosts: usize, filled: &dyn Fn(u64, usize) -> f64) -> f64 {
    if host + 1 == hosts {
        return filled(sizes.iter().sum(), host);
    }
    let cut = |at: usize| {
        let own = filled(sizes[..at].iter().sum(), host);
        own.max(fullest(&sizes[at..], host + 1, hosts, filled))
    };
    (1..=sizes.len() + host + 1 - hosts).map(cut).fold(f64::MAX, f64::min)
}

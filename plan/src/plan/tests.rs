//! Tests of plans.

use proptest::prelude::*;

use super::*;
use crate::{LayerHash, LayerId};

fn sources(ranges: &[(u64, u64)]) -> Vec<SourceRange> {
    let source = |(id, (start, bytes)): (u32, &(u64, u64))| SourceRange {
        id: LayerId(id),
        name: format!("layer {id}"),
        start: *start,
        bytes: *bytes,
    };
    (0..).zip(ranges).map(source).collect()
}

#[test]
fn absurd_layers_are_refused() {
    for ranges in [
        &[(0, 0)][..],
        &[(0, u64::MAX)],
        &[(u64::MAX, 1), (u64::MAX, u64::MAX)],
        &[(0, MAX_BYTES), (0, 1)],
    ] {
        assert!(Plan::resident(sources(ranges)).is_err(), "{ranges:?}");
    }
    assert!(Plan::resident(sources(&[(5, MAX_BYTES - 5)])).is_ok());
}

fn another(plan: &mut Plan, region: &str) {
    plan.push_empty(0, region, PAGE).unwrap();
}

#[test]
fn a_bad_plan_is_found_out() {
    let good = Plan::resident(sources(&[(100, 5000), (70_000, 80_000)])).unwrap();
    let spoil = |change: fn(&mut Plan)| {
        let mut plan = good.clone();
        change(&mut plan);
        plan.validate().unwrap_err().to_string()
    };
    assert!(spoil(|plan| plan.layers[1].memory = 1).contains("does not exist"));
    assert!(spoil(|plan| plan.layers[1].offset = 60_000).contains("share page 0"));
    assert!(spoil(|plan| plan.layers[1].source.id = LayerId(0)).contains("two layers numbered 0"));
    assert!(spoil(|plan| plan.layers[1].offset = u64::MAX).contains("leave the memory"));
    assert!(spoil(|plan| plan.version = 1).contains("version 1"));
    let newer = spoil(|plan| plan.version = 7);
    assert!(newer.contains("version 7") && newer.contains("up to 2: update"), "{newer}");
    assert!(spoil(|plan| plan.layers[0].source.bytes = 0).contains("no bytes"));
    assert!(spoil(|plan| plan.memories[0].bytes = PAGE).contains("leave the memory"));
    assert!(spoil(|plan| plan.memories[0].guest = 1).contains("no guest 0"));
    assert!(spoil(|plan| plan.memories[0].region = "kv".into()).contains("for the cache"));
    let two_caches = spoil(|plan| ["kv"; 2].into_iter().for_each(|region| another(plan, region)));
    assert!(two_caches.contains("2 memories"), "{two_caches}");
    let two_with_a_window = spoil(|plan| {
        another(plan, "attention");
        plan.memories[0].paged = true;
    });
    assert!(two_with_a_window.contains("window"), "{two_with_a_window}");
}

#[test]
fn hashes_of_layers_are_written_and_read() {
    let mut plan = Plan::resident(sources(&[(0, PAGE), (5, 7)])).unwrap();
    plan.layers[1].sha256 = Some(LayerHash([0x5a; 32]));
    let text = serde_json::to_string(&plan).unwrap();
    let hash = "5a".repeat(32);
    assert!(text.contains(&format!(r#""offset":65541,"sha256":"{hash}"}}]"#)), "{text}");
    assert_eq!(Plan::from_json(&text).unwrap(), plan);
    for wrong in ["", "5a", &"5A".repeat(32), &"5a".repeat(33), &"é".repeat(32)] {
        let error = Plan::from_json(&text.replace(&hash, wrong)).unwrap_err().to_string();
        assert!(error.contains("SHA-256 has 64 digits"), "{error}");
    }
}

#[test]
fn hosts_of_guests_are_checked() {
    let mut plan = Plan::empty();
    for guest in 0..4 {
        plan.push(guest, PlannedMemory::WEIGHTS, sources(&[(0, 10)])).unwrap();
    }
    let check = |hosts: &[u32]| {
        let plan = Plan { hosts: hosts.to_vec(), ..plan.clone() };
        plan.validate().map(|()| plan.host_count()).map_err(|error| error.to_string())
    };
    assert_eq!(check(&[]), Ok(1));
    assert_eq!(check(&[0, 0, 1, 2]), Ok(3));
    assert_eq!(check(&[2, 1, 0, 0]), Ok(3));
    for (hosts, says) in [
        (&[0, 0, 0][..], "a host for 3 guests, and has 4"),
        (&[0; 5], "a host for 5 guests, and has 4"),
        (&[0, 0, 2, 2], "host 1 has no guest"),
        (&[1, 1, 1, 1], "host 0 has no guest"),
        (&[0, 1, 2, 1_000_000_000], "guest 3 is on host 1000000000, but 4 guests"),
        (&[0, u32::MAX, 2, 3], "guest 1 is on host 4294967295"),
    ] {
        let error = check(hosts).unwrap_err();
        assert!(error.contains(says), "{error}");
    }
    let text = serde_json::to_string(&Plan { hosts: vec![0, 0, 1, 1], ..plan.clone() }).unwrap();
    assert!(text.ends_with(r#","hosts":[0,0,1,1]}"#), "{text}");
    assert_eq!(Plan::from_json(&text).unwrap().host_of(2), 1);
    for hosts in [r#"[0,0,1,-1]"#, r#"[0,0,1,4294967296]"#, r#"{"0":1}"#, "4"] {
        assert!(Plan::from_json(&text.replace("[0,0,1,1]", hosts)).is_err(), "{hosts}");
    }
}

#[test]
fn a_plan_is_for_one_model() {
    let layers = sources(&[(100, 5000), (70_000, 80_000)]);
    let plan = Plan::resident(layers.clone()).unwrap();
    plan.check_model(&layers).unwrap();
    let check = |layers: &[SourceRange]| plan.check_model(layers).unwrap_err().to_string();
    assert!(check(&sources(&[(100, 5000), (70_000, 80_001)])).contains("another model"));
    assert!(check(&sources(&[(100, 5000), (70_000, 80_000), (0, 1)])).contains("no place"));
}

#[test]
fn plans_are_stable_as_json() {
    let mut plan = Plan::resident(sources(&[(0, PAGE), (5, 7)])).unwrap();
    plan.memories[0].paged = true;
    plan.push_empty(0, PlannedMemory::KV, 1).unwrap();
    let text = serde_json::to_string(&plan).unwrap();
    let expected = concat!(
        r#"{"version":2,"memories":[{"guest":0,"region":"weights","bytes":131072,"paged":true},"#,
        r#"{"guest":0,"region":"kv","bytes":65536}],"layers":["#,
        r#"{"id":0,"name":"layer 0","start":0,"bytes":65536,"memory":0,"offset":0},"#,
        r#"{"id":1,"name":"layer 1","start":5,"bytes":7,"memory":0,"offset":65541}]}"#
    );
    assert_eq!(text, expected);
    assert_eq!(serde_json::from_str::<Plan>(&text).unwrap(), plan);
    assert!(serde_json::from_str::<Plan>(&text.replace("memories", "memory")).is_err());
    for unknown in [r#""offset":0,"color":1}"#, r#""offset":0,"offset":0}"#] {
        let text = text.replace(r#""offset":0}"#, unknown);
        assert!(serde_json::from_str::<Plan>(&text).is_err(), "{text}");
    }
}

/// Plans of many entries, one of them sound, and others that are as bad as can be.
fn large_plans(count: u32) -> Vec<(&'static str, Plan)> {
    let layers = |places: &dyn Fn(u32) -> (u32, u32, u64)| -> Vec<_> {
        let layer = |number| {
            let (id, memory, page) = places(number);
            let name = format!("layer {number}");
            let source = SourceRange { id: LayerId(id), name, start: 0, bytes: 1 };
            source.at(memory, page * PAGE)
        };
        (0..count).map(layer).collect()
    };
    let memories = |guests: &dyn Fn(u32) -> u32, pages: u32| -> Vec<_> {
        let bytes = u64::from(pages) * PAGE;
        let memory = |number| PlannedMemory {
            guest: guests(number),
            region: "a".into(),
            bytes,
            paged: false,
        };
        (0..count).map(memory).collect()
    };
    let one = || memories(&|_| 0, count)[..1].to_vec();
    let last = count - 1;
    let plan = Plan::new;
    vec![
        ("sound", plan(one(), layers(&|n| (n, 0, n.into())))),
        ("reversed", plan(one(), layers(&|n| (last - n, 0, (last - n).into())))),
        ("each in a guest", plan(memories(&|n| n, 1), layers(&|n| (0, n, 0)))),
        ("each in a memory", plan(memories(&|_| 0, 1), layers(&|n| (n, n, 0)))),
        ("one number", plan(one(), layers(&|n| (5, 0, n.into())))),
        ("one place", plan(one(), layers(&|n| (n, 0, 0)))),
        ("no layers", plan(memories(&|n| n, 0), Vec::new())),
        ("one layer", plan(memories(&|n| n, 1), layers(&|_| (0, 0, 0))[..1].to_vec())),
        ("guests with gaps", plan(memories(&|n| n * 2, 1), layers(&|n| (n, n, 0)))),
        ("the last guest", plan(memories(&|_| u32::MAX, 1), layers(&|n| (n, n, 0)))),
    ]
}

#[test]
fn a_plan_of_a_million_entries_is_checked_at_once() {
    for (name, plan) in large_plans(1_000_000) {
        let start = std::time::Instant::now();
        let result = plan.validate();
        assert!(start.elapsed().as_secs() < 20, "{name}: {:?}", start.elapsed());
        let sound = ["sound", "reversed", "each in a guest", "each in a memory"];
        assert_eq!(result.is_ok(), sound.contains(&name), "{name}: {result:?}");
    }
}

#[test]
fn more_layers_than_any_model_has_are_refused() {
    let (_, mut plan) = large_plans(u32::try_from(Plan::MAX_LAYERS).unwrap()).swap_remove(0);
    plan.validate().unwrap();
    plan.layers.push(plan.layers[0].clone());
    let error = plan.validate().unwrap_err().to_string();
    assert!(error.contains("1048577 layers, and 1048576 are the most"), "{error}");
}

proptest! {
    /// Every layer gets its bytes, in order, alike in its page, and wastes under two pages.
    #[test]
    fn resident_plans_hold(ranges in prop::collection::vec((0..1_u64 << 40, 1..1_u64 << 33), 1..50)) {
        let plan = Plan::resident(sources(&ranges)).unwrap();
        prop_assert!(plan.validate().is_ok());
        let mut end = 0;
        for (layer, (start, bytes)) in plan.layers.iter().zip(&ranges) {
            prop_assert_eq!(layer.offset % PAGE, start % PAGE);
            prop_assert!(layer.offset >= end && layer.offset - end < 2 * PAGE);
            end = layer.offset + bytes;
        }
        prop_assert!(plan.memories[0].bytes - end < PAGE);
    }
}

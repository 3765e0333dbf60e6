//! Lowered memories with segments of two pages, next to plain bytes.

use polychord_plan::LayerId;
use proptest::prelude::*;

use super::*;
use crate::idle::Idle;
use crate::layers::layer::LayerSpec;
use crate::layers::source::Source;
use crate::memory::region::MemorySpec;
use crate::memory::segment::Backing;
use crate::runtime::Runtime;

/// A page as an index.
const LEN: usize = 65_536;

#[derive(Clone, Debug)]
enum Step {
    Grow(u64),
    Write(u64, Vec<u8>),
    Copy(u64, u64, u64),
}

fn step() -> impl Strategy<Value = Step> {
    let at = || prop_oneof![0..8 * PAGE, (0..5 * PAGE).prop_map(|at| at / PAGE * PAGE)];
    prop_oneof![
        (0..4_u64).prop_map(Step::Grow),
        (at(), prop::collection::vec(any::<u8>(), 0..200_000))
            .prop_map(|(at, b)| Step::Write(at, b)),
        (at(), at(), 0..3 * PAGE).prop_map(|(from, to, len)| Step::Copy(from, to, len)),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    /// What is done to a lowered memory is what is done to bytes, wherever the edges of segments are.
    #[test]
    fn segments_are_one_memory(steps in prop::collection::vec(step(), 1..12)) {
        let mut guest = Idle::lowered("(module (memory 1) (memory (export \"memory\") i64 1 7))", 2);
        let host = guest.shared_host();
        let view = host.view();
        let guest = guest.instance();
        let mut expected = vec![0; LEN];
        for step in steps {
            let size = expected.len() as u64;
            match step {
                Step::Grow(pages) if size / PAGE + pages <= 7 => {
                    prop_assert_eq!(view.grow(guest, 0, pages).unwrap(), size / PAGE);
                    expected.resize(expected.len() + usize::try_from(pages).unwrap() * LEN, 0);
                }
                Step::Grow(_) => {}
                Step::Write(at, data) => {
                    let end = at + data.len() as u64;
                    let written = view.write(guest, 0, at, &data);
                    prop_assert_eq!(written.is_ok(), end <= size);
                    if end <= size {
                        let at = usize::try_from(at).unwrap();
                        expected[at..at + data.len()].copy_from_slice(&data);
                        let slice = view.slice(guest, 0, at as u64..end);
                        let within = data.is_empty() || at / (2 * LEN) == (at + data.len() - 1) / (2 * LEN);
                        prop_assert_eq!(slice.is_some(), within);
                        prop_assert!(slice.is_none_or(|slice| slice == data));
                    }
                }
                Step::Copy(from, to, len) if from.max(to) + len <= size => {
                    view.copy(guest, (0, from..from + len), (0, to)).unwrap();
                    let [from, to, len] = [from, to, len].map(|it| usize::try_from(it).unwrap());
                    expected.copy_within(from..from + len, to);
                }
                Step::Copy(..) => {}
            }
            prop_assert_eq!(view.size(guest, 0), expected.len() as u64);
            let mut all = vec![1; expected.len()];
            view.read(guest, 0, 0, &mut all).unwrap();
            prop_assert!(all == expected);
        }
    }
}

/// A layer on both sides of an edge is loaded, released, kept and read like any other.
#[test]
fn layers_lie_across_edges() {
    let mut guest = Idle::lowered("(module (memory (export \"memory\") i64 1 16))", 2);
    let memory = guest.create_memory64(&MemorySpec::guest(9 * PAGE)).unwrap();
    let stats = guest.memory_stats().remove(0);
    assert_eq!((stats.backing, stats.segments.len()), (Backing::Flat64, 1));
    assert_eq!(guest.memory_address(memory).unwrap(), Some(PAGE));
    assert_eq!((guest.memory_bytes(0), guest.stats().guest_bytes), (10 * PAGE, 10 * PAGE));
    let pattern: Vec<u8> = (0..=255).cycle().step_by(7).take(5 * LEN + 3).collect();
    let anonymous = Source::anonymous(pattern.len() as u64, 1 << 20);
    for (id, source) in (0..).zip([Source::from_bytes(pattern.clone()), anonymous]) {
        let mut layer = LayerSpec::new(LayerId(id), memory, &source);
        layer.offset = PAGE + 9;
        let place = 2 * PAGE + 9;
        guest.register_layer(layer).unwrap();
        guest.write_memory(0, 0, &vec![7; 10 * LEN]).unwrap();
        let loaded = guest.load_layer(LayerId(id)).unwrap();
        assert_eq!(loaded.address, Some(place));
        if id == 1 {
            guest.write_memory(0, place, &pattern).unwrap();
        }
        // Zeros around it, up to the next pages.
        let check = |guest: &dyn Runtime, expected: &[u8]| {
            let mut all = vec![0; 10 * LEN];
            guest.read_memory(0, 0, &mut all).unwrap();
            let start = usize::try_from(place).unwrap();
            assert!(all[start..start + expected.len()] == *expected);
            assert!(all[..2 * LEN].iter().chain(&all[8 * LEN..]).all(|byte| *byte == 7));
            assert_eq!(all[start - 1], 0);
        };
        check(&guest, &pattern);
        guest.release_layer(LayerId(id)).unwrap();
        check(&guest, &vec![0; pattern.len()]);
        guest.load_layer(LayerId(id)).unwrap();
        check(&guest, &pattern);
        guest.unregister_layer(LayerId(id)).unwrap();
    }
    assert!(guest.memory_slice(0, 2 * PAGE..4 * PAGE).is_some());
    assert!(guest.memory_slice(0, 4 * PAGE - 1..4 * PAGE + 1).is_none());
    assert!(guest.memory_slice(0, 10 * PAGE..10 * PAGE + 1).is_none());
    // There is room for six pages more, and no seventh.
    assert!(guest.create_memory64(&MemorySpec::guest(7 * PAGE)).is_err());
    guest.create_memory64(&MemorySpec::guest(6 * PAGE)).unwrap();
}

/// A failed growth leaves the size as it was, and what it left in higher segments does not count.
#[test]
fn growing_begins_with_the_highest_segment() {
    let mut guest = Idle::lowered("(module (memory (export \"memory\") i64 1 16))", 2);
    guest.instance().stuck = Some(1);
    assert!(guest.create_memory64(&MemorySpec::guest(6 * PAGE)).is_err());
    assert_eq!(guest.memory_bytes(0), PAGE);
    assert!(guest.write_memory(0, PAGE, &[1]).is_err());
    assert!(guest.memory_slice(0, 4 * PAGE..4 * PAGE + 1).is_none());
    guest.instance().stuck = None;
    guest.create_memory64(&MemorySpec::guest(6 * PAGE)).unwrap();
    assert_eq!(guest.memory_bytes(0), 7 * PAGE);
}

//! Tests of addresses, places and transfers.

use polychord_abi::PAGE;
use proptest::prelude::*;

use super::*;
use crate::memory::region::Region;
use crate::memory::segment::{Backing, Segment};

/// Linear memories that are plain bytes.
struct Bytes(Vec<Vec<u8>>);

impl LinearMemories for Bytes {
    fn linear_memory(&self, index: usize) -> &[u8] {
        self.0.get(index).map_or(&[], |bytes| bytes)
    }

    fn linear_memory_mut(&mut self, index: usize) -> &mut [u8] {
        self.0.get_mut(index).map_or(&mut [], |bytes| bytes)
    }
}

/// One region of this size, and the same with so much more to grow by.
fn region(pages: u64, more: u64) -> Region {
    let (bytes, max_bytes) = (pages * PAGE, (pages + more) * PAGE);
    Region { name: "weights".into(), offset: 0, bytes, max_bytes }
}

/// Pages of all memories together.
const PAGES: u64 = 7;
const ALL: u64 = PAGES * PAGE;

/// A memory in four segments, then one in the host, and one in a single segment.
fn memories() -> (Memories, Bytes) {
    let mut memories = Memories::default();
    let segment = |memory, start, bytes| Segment { memory, start, bytes };
    let several = vec![
        segment(1, 0, PAGE),
        segment(2, PAGE, PAGE),
        segment(0, PAGE, PAGE),
        segment(3, 2 * PAGE, PAGE),
    ];
    let regions = [(0, 1), (1, 2), (3, 1)].map(|(at, pages)| Region {
        name: at.to_string(),
        offset: at * PAGE,
        ..region(pages, 0)
    });
    memories.add(regions.into(), Backing::Segments, Storage::Guest(several)).unwrap();
    let host = Storage::host("test", PAGE).unwrap();
    memories.add(vec![region(1, 0)], Backing::Host, host).unwrap();
    let one = vec![segment(0, 2 * PAGE, 2 * PAGE)];
    memories.add(vec![region(2, 0)], Backing::Segments, Storage::Guest(one)).unwrap();
    let bytes = |pages: u64| vec![0; usize::try_from(pages * PAGE).unwrap()];
    (memories, Bytes([5, 1, 3, 3].map(bytes).into()))
}

fn all(memories: &Memories, guest: &Bytes) -> Vec<u8> {
    let mut all = vec![0; usize::try_from(ALL).unwrap()];
    memories.read(guest, 0, &mut all).unwrap();
    all
}

#[test]
fn sizes_are_checked_to_the_last_byte() {
    for (offset, len) in [(u64::MAX, 1), (u64::MAX, u64::MAX), (1, u64::MAX), (0, 4 * PAGE)] {
        assert!(check_range("test", offset, len, 3 * PAGE).is_err());
    }
    assert!(check_range("test", u64::MAX, 0, u64::MAX).is_ok());
}

#[test]
fn addresses_name_the_segment() {
    let (memories, _) = memories();
    for (memory, offset, expected) in [
        (0, 0, Some(1 << 32)),
        (0, PAGE - 1, Some((1 << 32) + PAGE - 1)),
        (0, PAGE, Some((2 << 32) + PAGE)),
        (0, 2 * PAGE + 7, Some(PAGE + 7)),
        (0, 4 * PAGE - 1, Some((3 << 32) + 3 * PAGE - 1)),
        (0, 4 * PAGE, None),
        (1, 0, None),
        (2, PAGE, Some(3 * PAGE)),
    ] {
        assert_eq!(memories.guest_address(MemoryId(memory), offset).unwrap(), expected);
    }
    assert_eq!(memories.extent(MemoryId(0), PAGE + 1).unwrap(), 2 * PAGE);
    assert_eq!(memories.extent(MemoryId(0), 3 * PAGE - 1).unwrap(), 3 * PAGE);
    assert_eq!(memories.extent(MemoryId(1), 5).unwrap(), PAGE);
    assert!(memories.guest_address(MemoryId(3), 0).is_err());
}

/// A region may have terabytes to grow by, which the system is not asked for.
#[test]
fn residence_is_of_what_regions_have() {
    let mut memories = Memories::default();
    let mut second = region(3, 1 << 24);
    (second.name, second.offset) = ("second".into(), (2 + (1 << 24)) * PAGE);
    let bytes = second.offset + second.max_bytes;
    let host = Storage::host("test", bytes).unwrap();
    let first = region(2, 1 << 24);
    memories.add(vec![first, second], Backing::Host, host).unwrap();
    let mut guest = Bytes(Vec::new());
    let resident = |memories: &Memories, guest: &Bytes| memories.stats(guest)[0].resident_bytes;
    assert!(matches!(resident(&memories, &guest), None | Some(0)));
    memories.write(&mut guest, 0, &vec![1; 2 * 65_536]).unwrap();
    memories.write(&mut guest, (2 + (1 << 24)) * PAGE, &[1]).unwrap();
    let now = resident(&memories, &guest);
    assert!(now.is_none_or(|now| now > 2 * PAGE && now <= 5 * PAGE), "{now:?}");
}

#[test]
fn pages_of_a_layer_are_in_one_segment() {
    let (mut memories, mut guest) = memories();
    let mut place = memories.place(&mut guest, MemoryId(0), &(3 * PAGE + 5..4 * PAGE)).unwrap();
    place.bytes().fill(9);
    let nines = |bytes: &[u8]| bytes.iter().filter(|byte| **byte == 9).count() as u64;
    assert_eq!(nines(&guest.0[3][2 * 65_536 + 5..]), PAGE - 5);
    assert!(memories.place(&mut guest, MemoryId(0), &(PAGE - 1..PAGE + 1)).is_err());
    assert!(memories.place(&mut guest, MemoryId(0), &(4 * PAGE - 1..4 * PAGE + 1)).is_err());
}

#[test]
fn what_is_not_in_a_region_cannot_be_used() {
    let mut memories = Memories::default();
    let mut second = region(2, 1);
    (second.name, second.offset) = ("second".into(), 3 * PAGE);
    let host = Storage::host("test", 6 * PAGE).unwrap();
    let id = memories.add(vec![region(1, 2), second], Backing::Host, host).unwrap();
    let mut guest = Bytes(Vec::new());
    let allowed = |memories: &mut Memories, guest: &mut Bytes| {
        let write = |page: &u64| memories.write(guest, page * PAGE, &[1]).is_ok();
        (0..7).filter(write).collect::<Vec<_>>()
    };
    assert_eq!(allowed(&mut memories, &mut guest), [0, 3, 4]);
    assert!(memories.write(&mut guest, PAGE - 1, &[1, 2]).is_err());
    assert!(memories.place(&mut guest, id, &(0..PAGE + 1)).is_err());
    assert_eq!(memories.region(id, "weights").unwrap().grow(1).unwrap(), PAGE);
    assert_eq!(allowed(&mut memories, &mut guest), [0, 1, 3, 4]);
    memories.write(&mut guest, PAGE - 1, &[1, 2]).unwrap();
    memories.region(id, "weights").unwrap().grow(PAGE).unwrap();
    memories.write(&mut guest, PAGE, &vec![3; 4 * 65_536]).unwrap();
    assert!(memories.region(id, "weights").unwrap().grow(1).is_err());
    let error = memories.region(id, "kv").unwrap_err().to_string();
    assert!(error.contains("weights, second"), "{error}");
}

proptest! {
    /// Whatever is written is read back, also across the edges of segments and memories,
    /// and nothing beside it changes.
    #[test]
    fn writes_read_back(
        edge in 0..=PAGES,
        before in 0..70_000_u64,
        data in prop::collection::vec(any::<u8>(), 0..140_000),
    ) {
        let address = (edge * PAGE).saturating_sub(before);
        let (mut memories, mut guest) = memories();
        let fits = address + data.len() as u64 <= ALL;
        prop_assert_eq!(memories.write(&mut guest, address, &data).is_ok(), fits);
        let mut expected = vec![0; usize::try_from(ALL).unwrap()];
        if fits {
            let start = usize::try_from(address).unwrap();
            expected[start..start + data.len()].copy_from_slice(&data);
        }
        prop_assert!(all(&memories, &guest) == expected);
        let page = usize::try_from(PAGE).unwrap();
        let beside = [&guest.0[0][..page], &guest.0[0][4 * page..], &guest.0[2][..page]];
        prop_assert!(beside.concat().iter().all(|byte| *byte == 0));
    }

    /// The guest's own copies agree with the host's, wherever they overlap.
    #[test]
    fn guest_copies_agree(address in 0..ALL + 9, len in 0..160_000_usize, at in 0..160_000_usize) {
        let (mut memories, mut guest) = memories();
        for (memory, bytes) in (0..).zip(&mut guest.0) {
            let len = bytes.len();
            *bytes = (memory..250).collect::<Vec<u8>>().repeat(len / 200);
            bytes.truncate(len);
        }
        let fits = address + len as u64 <= ALL;
        let start = usize::try_from(address).unwrap();
        let mut expected = all(&memories, &guest);
        let data = guest.0[0][at..at + len].to_vec();
        let range = at as u64..(at + len) as u64;
        prop_assert_eq!(memories.copy_in(&mut guest, range.clone(), address).is_ok(), fits);
        if fits {
            expected[start..start + len].copy_from_slice(&data);
            // What is copied to itself is unchanged.
            prop_assert!(all(&memories, &guest) == expected);
            memories.copy_out(&mut guest, address, range).unwrap();
            prop_assert!(guest.0[0][at..at + len] == expected[start..start + len]);
        }
    }
}

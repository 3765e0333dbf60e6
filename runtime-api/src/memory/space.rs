use std::ops::Range;
use std::time::Duration;

use polychord_plan::range::check_range;
use serde::Serialize;

use crate::memory::mapping::HostPages;
use crate::memory::place::{MemoryBytes, Place as LayerPlace};
use crate::memory::region::Region;
use crate::memory::segment::{Backing, LinearMemories, Segment};
use crate::stats::{Histogram, resident};
use crate::{Error, Result};

/// Number of a memory in its runtime, in the order of creation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(transparent)]
pub struct MemoryId(pub u32);

/// Statistics of one memory made by `create_memory64`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct MemoryStats {
    /// Its number.
    pub id: MemoryId,
    /// How the memory is backed.
    pub backing: Backing,
    /// Why that backing was chosen.
    pub reason: &'static str,
    /// Bytes of its address space, with what its regions may still grow by.
    pub reserved_bytes: u64,
    /// Bytes of it that are in RAM, by whole pages of the machine, as `/proc/self/pagemap` has
    /// them; none where the system does not tell.
    pub resident_bytes: Option<u64>,
    /// Bytes of its layers that are pages of a file now.
    pub mapped_bytes: u64,
    /// Layers that were brought in.
    pub loads: u64,
    /// How long each of them took.
    pub load_times: Histogram,
    /// What it is divided into.
    pub regions: Vec<Region>,
    /// Where it is in the guest's linear memories, in the order of its own bytes; none if it
    /// is in the host.
    pub segments: Vec<Segment>,
}

/// The memories of one runtime. Together they are one space of 64-bit addresses, each
/// beginning where the one before it ends.
#[derive(Debug, Default)]
pub(crate) struct Memories(Vec<Memory>);

#[derive(Debug)]
struct Memory {
    /// Address of the first byte.
    base: u64,
    /// What it may grow to.
    bytes: u64,
    regions: Vec<Region>,
    backing: Backing,
    storage: Storage,
    load_times: Histogram,
}

#[derive(Debug)]
pub(crate) enum Storage {
    /// In these parts of the guest's linear memories, one after the other.
    Guest(Vec<Segment>),
    /// In pages of the host.
    Host(HostPages),
}

/// A range of the common space that is all in one place.
#[derive(Debug)]
struct Piece {
    place: Place,
    /// Where it is there.
    range: Range<u64>,
}

/// The pieces of a transfer: those in the guest's linear memory of index 0, and others.
struct Transfer {
    main: Vec<(Piece, usize)>,
    others: Vec<(Piece, usize)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    /// The guest's linear memory of this index.
    Linear(usize),
    /// The host's pages of the memory of this index.
    Host(usize),
}

impl Storage {
    /// Reserves pages of the host; none is in use before it is written to.
    pub(crate) fn host(engine: &'static str, bytes: u64) -> Result<Self> {
        let refuse = |reason: String| Error::OutOfMemory {
            engine,
            what: "a 64-bit memory in the host",
            asked: bytes,
            reason,
        };
        let len = usize::try_from(bytes).map_err(|error| refuse(error.to_string()))?;
        HostPages::new(len).map(Self::Host).map_err(|error| refuse(error.to_string()))
    }
}

impl Memories {
    /// Adds a memory with these regions, of which there is at least one.
    pub(crate) fn add(
        &mut self,
        regions: Vec<Region>,
        backing: Backing,
        storage: Storage,
    ) -> Result<MemoryId> {
        let base = self.end();
        let bytes = regions.last().map_or(0, |last| last.offset + last.max_bytes);
        let end = base.checked_add(bytes);
        let id = u32::try_from(self.0.len()).ok();
        let (Some(_), Some(id)) = (end, id) else {
            return Err(Error::TooLarge {
                what: "another 64-bit memory".into(),
                asked: bytes,
                limit: u64::MAX - base,
                limited_by: "the 64-bit address space".into(),
            });
        };
        let load_times = Histogram::default();
        self.0.push(Memory { base, bytes, regions, backing, storage, load_times });
        Ok(MemoryId(id))
    }

    pub(crate) const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Statistics of each memory, without those of its layers.
    pub(crate) fn stats(&self, guest: &(impl LinearMemories + ?Sized)) -> Vec<MemoryStats> {
        let stats = |(id, memory): (u32, &Memory)| MemoryStats {
            id: MemoryId(id),
            backing: memory.backing,
            reason: memory.backing.reason(),
            reserved_bytes: memory.bytes,
            resident_bytes: memory.resident(guest),
            mapped_bytes: 0,
            loads: memory.load_times.count(),
            load_times: memory.load_times,
            regions: memory.regions.clone(),
            segments: memory.segments().to_vec(),
        };
        (0..).zip(&self.0).map(stats).collect()
    }

    /// Whether one of them has a segment in the linear memory of this index.
    pub(crate) fn has_segment_in(&self, index: usize) -> bool {
        self.0.iter().flat_map(Memory::segments).any(|segment| segment.memory == index)
    }

    /// Counts a layer that was brought in.
    pub(crate) fn count_load(&mut self, id: MemoryId, took: Duration) {
        if let Some(memory) = self.0.get_mut(id.0 as usize) {
            memory.load_times.record(took);
        }
    }

    /// Bytes of a memory's address space.
    pub(crate) fn bytes(&self, id: MemoryId) -> Result<u64> {
        Ok(self.get(id)?.bytes)
    }

    /// A region of a memory.
    pub(crate) fn region(&mut self, id: MemoryId, name: &str) -> Result<&mut Region> {
        let regions = &self.get(id)?.regions;
        let names = || regions.iter().map(|region| region.name.as_str()).collect::<Vec<_>>();
        let found = regions.iter().position(|region| region.name == name);
        let missing = || Error::RegionNotFound {
            memory: id.0,
            region: name.to_owned(),
            available: names().join(", "),
        };
        let index = found.ok_or_else(missing)?;
        Ok(&mut self.0[id.0 as usize].regions[index])
    }

    /// Whether a memory is in the guest's linear memories.
    pub(crate) fn is_in_guest(&self, id: MemoryId) -> Result<bool> {
        Ok(matches!(self.get(id)?.storage, Storage::Guest(_)))
    }

    /// Guest address of a byte of a memory, if the memory is in the guest's linear memories.
    pub(crate) fn guest_address(&self, id: MemoryId, offset: u64) -> Result<Option<u64>> {
        let memory = self.get(id)?;
        let found = memory.segment(offset);
        Ok(found.map(|(segment, within)| segment.address(offset - within.start)))
    }

    /// The end of what is in one place, from an offset in a memory on: layers that begin there
    /// must not go beyond it.
    pub(crate) fn extent(&self, id: MemoryId, offset: u64) -> Result<u64> {
        Ok(self.get(id)?.extent(offset).unwrap_or(offset))
    }

    /// Address of a byte of a memory in the common space.
    pub(crate) fn address(&self, id: MemoryId, offset: u64, len: u64) -> Result<u64> {
        let memory = self.get(id)?;
        check_range("a memory access", offset, len, memory.bytes)?;
        Ok(memory.base + offset)
    }

    /// The place of a layer's range.
    pub(crate) fn place<'a>(
        &'a mut self,
        guest: &'a mut (impl LinearMemories + ?Sized),
        id: MemoryId,
        range: Range<u64>,
    ) -> Result<LayerPlace<'a>> {
        let (offset, len) = (range.start, range.end.saturating_sub(range.start));
        let address = self.address(id, offset, len)?;
        let size = self.extent(id, offset)?;
        // A layer that crosses the edge of a region or segment was not registered.
        let piece = self.piece(address, len).filter(|piece| piece.len() == len);
        let operation = "a layer";
        let outside = || Error::OutOfRange { operation, offset, len, size };
        let piece = piece.ok_or_else(outside)?;
        let mut bytes = match piece.place {
            Place::Linear(index) if lends_pages(guest, index) => {
                MemoryBytes::Pages(guest.whole_pages(index).ok_or_else(outside)?)
            }
            Place::Linear(index) => MemoryBytes::Plain(guest.linear_memory_mut(index)),
            Place::Host(memory) => match self.0.get_mut(memory).map(|memory| &mut memory.storage) {
                Some(Storage::Host(pages)) => MemoryBytes::Pages(pages.whole()),
                _ => return Err(outside()),
            },
        };
        let range = piece.index(bytes.all().len())?;
        Ok(LayerPlace::new(bytes, range))
    }

    /// Copies from `address` of the common space into `out`.
    pub(crate) fn read(
        &self,
        guest: &(impl LinearMemories + ?Sized),
        mut address: u64,
        mut out: &mut [u8],
    ) -> Result<()> {
        self.check("reading the 64-bit memory", address, out.len() as u64)?;
        while let Some(piece) = self.piece(address, out.len() as u64) {
            let bytes = match piece.place {
                Place::Linear(index) => guest.linear_memory(index),
                Place::Host(memory) => self.host(memory),
            };
            let range = piece.index(bytes.len())?;
            let (now, later) = out.split_at_mut(range.len());
            now.copy_from_slice(&bytes[range]);
            (address, out) = (address + piece.len(), later);
        }
        Ok(())
    }

    /// Copies `data` to `address` of the common space.
    pub(crate) fn write(
        &mut self,
        guest: &mut (impl LinearMemories + ?Sized),
        mut address: u64,
        mut data: &[u8],
    ) -> Result<()> {
        self.check("writing the 64-bit memory", address, data.len() as u64)?;
        while let Some(piece) = self.piece(address, data.len() as u64) {
            let bytes = match piece.place {
                Place::Linear(index) => guest.linear_memory_mut(index),
                Place::Host(memory) => self.host_mut(memory),
            };
            let range = piece.index(bytes.len())?;
            let (now, later) = data.split_at(range.len());
            bytes[range].copy_from_slice(now);
            (address, data) = (address + piece.len(), later);
        }
        Ok(())
    }

    /// Copies from `address` of the common space to `to` in the guest's linear memory of index
    /// 0, which may overlap.
    pub(crate) fn copy_out(
        &self,
        guest: &mut (impl LinearMemories + ?Sized),
        address: u64,
        to: Range<usize>,
    ) -> Result<()> {
        self.check("memory64_read", address, to.len() as u64)?;
        let Transfer { others, main } = self.transfer(address, to, |piece, at| at <= piece);
        // What comes from elsewhere overwrites only what has been moved.
        for (piece, at) in main.into_iter().chain(others) {
            let from = piece.index(self.size(guest, piece.place))?;
            match piece.place {
                Place::Linear(index) => copy_between(guest, (index, from), (0, at)),
                Place::Host(memory) => {
                    let bytes = &self.host(memory)[from];
                    guest.linear_memory_mut(0)[at..at + bytes.len()].copy_from_slice(bytes);
                }
            }
        }
        Ok(())
    }

    /// Copies from `from` in the guest's linear memory of index 0 to `address` of the common
    /// space, which may overlap.
    pub(crate) fn copy_in(
        &mut self,
        guest: &mut (impl LinearMemories + ?Sized),
        from: Range<usize>,
        address: u64,
    ) -> Result<()> {
        self.check("memory64_write", address, from.len() as u64)?;
        let Transfer { others, main } = self.transfer(address, from, |piece, at| piece <= at);
        // What goes elsewhere is read before anything is overwritten.
        for (piece, at) in others.into_iter().chain(main) {
            let to = piece.index(self.size(guest, piece.place))?;
            let from = at..at + to.len();
            match piece.place {
                Place::Linear(index) => copy_between(guest, (0, from), (index, to.start)),
                Place::Host(memory) => {
                    let bytes = &guest.linear_memory(0)[from];
                    self.host_mut(memory)[to].copy_from_slice(bytes);
                }
            }
        }
        Ok(())
    }

    /// The pieces of a transfer between the common space and a range of the guest's linear memory
    /// of index 0, each with its place there. They are in an order in which no piece is
    /// overwritten before it was copied, without room for any of them.
    ///
    /// Pieces that are in that memory themselves follow each other there as they do in the common
    /// space, since each was made by growing it. So do their counterparts in the range. A piece that
    /// moves down can thus only overwrite pieces before it, and those move down, too: they go
    /// first, in order. A piece that moves up can only overwrite pieces behind it that move up, so
    /// those go in the opposite order.
    fn transfer(
        &self,
        mut address: u64,
        range: Range<usize>,
        moves_down: impl Fn(usize, usize) -> bool,
    ) -> Transfer {
        let (mut others, mut down, mut up) = (Vec::new(), Vec::new(), Vec::new());
        let mut at = range.start;
        while let Some(piece) = self.piece(address, (range.end - at) as u64) {
            // No more than the range.
            let len = usize::try_from(piece.len()).unwrap_or(usize::MAX);
            let start = usize::try_from(piece.range.start).unwrap_or(usize::MAX);
            address += piece.len();
            match piece.place {
                Place::Linear(0) if moves_down(start, at) => down.push((piece, at)),
                Place::Linear(0) => up.push((piece, at)),
                _ => others.push((piece, at)),
            }
            at += len;
        }
        down.extend(up.into_iter().rev());
        Transfer { main: down, others }
    }

    /// The longest piece that a range of the common space begins with; none if it is empty or
    /// begins where there is nothing to use.
    fn piece(&self, address: u64, len: u64) -> Option<Piece> {
        let index = self.0.partition_point(|memory| memory.base <= address).checked_sub(1)?;
        let memory = &self.0[index];
        let offset = address - memory.base;
        let len = len.min(memory.extent(offset)? - offset);
        let (place, start) = match memory.segment(offset) {
            Some((segment, within)) => {
                (Place::Linear(segment.memory), segment.start + (offset - within.start))
            }
            None => (Place::Host(index), offset),
        };
        (len > 0).then_some(Piece { place, range: start..start + len })
    }

    fn host(&self, memory: usize) -> &[u8] {
        match self.0.get(memory).map(|memory| &memory.storage) {
            Some(Storage::Host(pages)) => pages.bytes(),
            _ => &[],
        }
    }

    fn host_mut(&mut self, memory: usize) -> &mut [u8] {
        match self.0.get_mut(memory).map(|memory| &mut memory.storage) {
            Some(Storage::Host(pages)) => pages.bytes_mut(),
            _ => &mut [],
        }
    }

    /// How many bytes there are in a place.
    fn size(&self, guest: &(impl LinearMemories + ?Sized), place: Place) -> usize {
        match place {
            Place::Linear(index) => guest.linear_memory(index).len(),
            Place::Host(memory) => self.host(memory).len(),
        }
    }

    fn end(&self) -> u64 {
        self.0.last().map_or(0, |memory| memory.base + memory.bytes)
    }

    /// Checks that a range of the common space is all in memories, and in regions of them.
    fn check(&self, operation: &'static str, address: u64, len: u64) -> Result<()> {
        check_range(operation, address, len, self.end())?;
        let (mut at, mut left) = (address, len);
        while left > 0 {
            let gap = Error::OutOfRange { operation, offset: address, len, size: at };
            let piece = self.piece(at, left).ok_or(gap)?;
            (at, left) = (at + piece.len(), left - piece.len());
        }
        Ok(())
    }

    fn get(&self, id: MemoryId) -> Result<&Memory> {
        let missing = Error::MemoryNotFound { memory: id.0, count: self.0.len() };
        self.0.get(id.0 as usize).ok_or(missing)
    }
}

impl Memory {
    /// The segments, if it is in the guest.
    fn segments(&self) -> &[Segment] {
        match &self.storage {
            Storage::Guest(segments) => segments,
            Storage::Host(_) => &[],
        }
    }

    /// Bytes of it that are in RAM: nothing behind the size of a region is.
    fn resident(&self, guest: &(impl LinearMemories + ?Sized)) -> Option<u64> {
        let mut sum = 0;
        for region in &self.regions {
            let mut offset = region.offset;
            while offset < region.end() {
                let (all, start) = match (self.segment(offset), &self.storage) {
                    (Some((segment, within)), _) => {
                        let all = guest.linear_memory(segment.memory);
                        (all, segment.start + (offset - within.start))
                    }
                    (None, Storage::Host(pages)) => (pages.bytes(), offset),
                    (None, Storage::Guest(_)) => return None,
                };
                let len = self.extent(offset)? - offset;
                sum += resident(&all[to_usize(start, len, all.len()).ok()?])?;
                offset += len;
            }
        }
        Some(sum)
    }

    /// The end of what is in one region and one segment, from an offset on; none if nothing is.
    fn extent(&self, offset: u64) -> Option<u64> {
        let region = self.regions.iter().find(|region| region.end() > offset)?;
        let end = self.segment(offset).map_or(u64::MAX, |(_, within)| within.end);
        (region.offset <= offset).then_some(region.end().min(end))
    }

    /// The segment that a byte is in, and the part of this memory that the segment is.
    fn segment(&self, offset: u64) -> Option<(&Segment, Range<u64>)> {
        let mut start = 0;
        self.segments().iter().find_map(|segment| {
            let within = start..start + segment.bytes;
            start = within.end;
            within.contains(&offset).then_some((segment, within))
        })
    }
}

impl Piece {
    const fn len(&self) -> u64 {
        self.range.end - self.range.start
    }

    /// Its range as an index of a place with so many bytes.
    fn index(&self, size: usize) -> Result<Range<usize>> {
        to_usize(self.range.start, self.len(), size)
    }
}

/// Whether the guest lends the pages of its linear memory of this index.
fn lends_pages(guest: &mut (impl LinearMemories + ?Sized), index: usize) -> bool {
    let bytes = guest.linear_memory(index).as_ptr_range();
    guest.whole_pages(index).is_some_and(|pages| pages.bytes().as_ptr_range() == bytes)
}

/// Copies between linear memories of a guest, or within one, where the ranges may overlap.
fn copy_between(
    guest: &mut (impl LinearMemories + ?Sized),
    (from, range): (usize, Range<usize>),
    (to, mut at): (usize, usize),
) {
    if from == to {
        guest.linear_memory_mut(to).copy_within(range, at);
        return;
    }
    // Engines show one memory at a time.
    let mut room = [0; 16 << 10];
    let mut start = range.start;
    while start < range.end {
        let part = &mut room[..(range.end - start).min(16 << 10)];
        part.copy_from_slice(&guest.linear_memory(from)[start..start + part.len()]);
        guest.linear_memory_mut(to)[at..at + part.len()].copy_from_slice(part);
        (start, at) = (start + part.len(), at + part.len());
    }
}

/// The range as an index, once it is known to lie in a slice of `size` bytes.
fn to_usize(start: u64, len: u64, size: usize) -> Result<Range<usize>> {
    check_range("a memory access", start, len, size as u64)?;
    let out_of_range = |_| Error::OutOfRange {
        operation: "a memory access",
        offset: start,
        len,
        size: size as u64,
    };
    let first = usize::try_from(start).map_err(out_of_range)?;
    let last = usize::try_from(start + len).map_err(out_of_range)?;
    Ok(first..last)
}

#[cfg(test)]
mod tests {
    use polychord_abi::PAGE;
    use proptest::prelude::*;

    use super::*;

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

    /// A region may have terabytes to grow by, of which nobody asks the system.
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
        let mut place = memories.place(&mut guest, MemoryId(0), 3 * PAGE + 5..4 * PAGE).unwrap();
        place.bytes().fill(9);
        let nines = |bytes: &[u8]| bytes.iter().filter(|byte| **byte == 9).count() as u64;
        assert_eq!(nines(&guest.0[3][2 * 65_536 + 5..]), PAGE - 5);
        assert!(memories.place(&mut guest, MemoryId(0), PAGE - 1..PAGE + 1).is_err());
        assert!(memories.place(&mut guest, MemoryId(0), 4 * PAGE - 1..4 * PAGE + 1).is_err());
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
        assert!(memories.place(&mut guest, id, 0..PAGE + 1).is_err());
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
            prop_assert_eq!(memories.copy_in(&mut guest, at..at + len, address).is_ok(), fits);
            if fits {
                expected[start..start + len].copy_from_slice(&data);
                // What is copied to itself is unchanged.
                prop_assert!(all(&memories, &guest) == expected);
                memories.copy_out(&mut guest, address, at..at + len).unwrap();
                prop_assert!(guest.0[0][at..at + len] == expected[start..start + len]);
            }
        }
    }
}

//! All memories of one guest, as one space of addresses: which bytes an address means.

#[cfg(test)]
mod tests;
mod transfer;

use std::ops::Range;
use std::time::Duration;

use polychord_plan::range::check_range;

use crate::memory::memory64::{Memory, Storage, to_usize};
use crate::memory::place::{MemoryBytes, Place as LayerPlace};
use crate::memory::region::Region;
use crate::memory::segment::{Backing, LinearMemories};
use crate::memory::stats::{MemoryId, MemoryStats};
use crate::memory::view::View;
use crate::stats::Histogram;
use crate::{Error, Result};

/// The memories of one runtime. Together they are one space of 64-bit addresses, each
/// beginning where the one before it ends.
#[derive(Debug, Default)]
pub(crate) struct Memories {
    list: Vec<Memory>,
    /// How the guest's linear memories are found in those of the engine.
    view: View,
}

/// A range of the common space that is all in one place.
#[derive(Debug)]
struct Piece {
    place: Place,
    /// Where it is there.
    range: Range<u64>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    /// The guest's linear memory of this index.
    Linear(usize),
    /// The host's pages of the memory of this index.
    Host(usize),
}

impl Memories {
    /// No memory yet, of a guest that is seen so.
    pub(crate) const fn seen_by(view: View) -> Self {
        Self { list: Vec::new(), view }
    }

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
        let id = u32::try_from(self.list.len()).ok();
        let (Some(_), Some(id)) = (end, id) else {
            return Err(Error::TooLarge {
                what: "another 64-bit memory".into(),
                asked: bytes,
                limit: u64::MAX - base,
                limited_by: "the 64-bit address space".into(),
            });
        };
        let (load_times, wants_huge) = (Histogram::default(), false);
        self.list.push(Memory { base, bytes, regions, backing, storage, load_times, wants_huge });
        Ok(MemoryId(id))
    }

    pub(crate) const fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// Statistics of each memory, without those of its layers.
    pub(crate) fn stats(&self, guest: &dyn LinearMemories) -> Vec<MemoryStats> {
        let stats = |(id, memory): (u32, &Memory)| MemoryStats {
            id: MemoryId(id),
            backing: memory.backing,
            reason: memory.backing.reason(),
            reserved_bytes: memory.bytes,
            resident_bytes: memory.resident(guest, &self.view),
            huge_bytes: memory.huge(guest, &self.view),
            mapped_bytes: 0,
            loads: memory.load_times.count(),
            load_times: memory.load_times,
            regions: memory.regions.clone(),
            segments: memory.segments().to_vec(),
        };
        (0..).zip(&self.list).map(stats).collect()
    }

    /// Whether one of them has a segment in the linear memory of this index.
    pub(crate) fn has_segment_in(&self, index: usize) -> bool {
        self.list.iter().flat_map(Memory::segments).any(|segment| segment.memory == index)
    }

    /// Counts a layer that was brought in.
    pub(crate) fn count_load(&mut self, id: MemoryId, took: Duration) {
        if let Some(memory) = self.list.get_mut(id.0 as usize) {
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
        Ok(&mut self.list[id.0 as usize].regions[index])
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

    /// The parts of a layer's range that are each in one memory of the engine: one, unless the range is on
    /// both sides of the edge of two segments of a memory that was lowered.
    pub(crate) fn parts(&self, id: MemoryId, range: Range<u64>) -> Result<Vec<Range<u64>>> {
        let memory = self.get(id)?;
        let (mut parts, mut start) = (Vec::with_capacity(1), range.start);
        while start < range.end {
            let left = range.end - start;
            let len = match memory.segment(start) {
                Some((segment, within)) => {
                    let address = segment.start + (start - within.start);
                    let (_, piece) = self.view.piece(segment.memory, address, left);
                    piece.end - piece.start
                }
                None => left,
            };
            parts.push(start..start + len);
            start += len;
        }
        Ok(parts)
    }

    /// The place of one of the [`parts`](Self::parts) of a layer's range.
    pub(crate) fn place<'a>(
        &'a mut self,
        guest: &'a mut dyn LinearMemories,
        id: MemoryId,
        range: &Range<u64>,
    ) -> Result<LayerPlace<'a>> {
        let (offset, len) = (range.start, range.end.saturating_sub(range.start));
        let address = self.address(id, offset, len)?;
        let size = self.extent(id, offset)?;
        // A layer that crosses the edge of a region or segment was not registered.
        let piece = self.piece(address, len).filter(|piece| piece.len() == len);
        let operation = "a layer";
        let outside = || Error::OutOfRange { operation, offset, len, size };
        let Piece { place, range } = piece.ok_or_else(outside)?;
        let (mut bytes, range) = match place {
            Place::Linear(memory) => {
                let (index, range) = self.view.piece(memory, range.start, len);
                let bytes = match lends_pages(guest, index) {
                    true => MemoryBytes::Pages(guest.whole_pages(index).ok_or_else(outside)?),
                    false => MemoryBytes::Plain(guest.linear_memory_mut(index)),
                };
                (bytes, range)
            }
            Place::Host(memory) => {
                match self.list.get_mut(memory).map(|memory| &mut memory.storage) {
                    Some(Storage::Host(pages)) => (MemoryBytes::Pages(pages.whole()), range),
                    _ => return Err(outside()),
                }
            }
        };
        if range.end - range.start != len {
            return Err(outside());
        }
        let range = to_usize(range.start, len, bytes.all().len())?;
        Ok(LayerPlace::new(bytes, range))
    }

    /// Asks for huge pages for all that is in use of a memory, once. It is no failure if there are none.
    pub(crate) fn want_huge_pages(&mut self, guest: &mut dyn LinearMemories, id: MemoryId) {
        let Some(memory) = self.list.get_mut(id.0 as usize).filter(|it| !it.wants_huge) else {
            return;
        };
        memory.wants_huge = true;
        let regions: Vec<_> = memory.regions.iter().map(|it| it.offset..it.end()).collect();
        for Range { start: mut offset, end } in regions {
            while offset < end {
                let Ok(extent) = self.extent(id, offset) else { return };
                for part in self.parts(id, offset..extent).unwrap_or_default() {
                    if let Ok(mut place) = self.place(guest, id, &part) {
                        place.want_huge_pages();
                    }
                }
                offset = extent.max(offset + 1);
            }
        }
    }

    /// The longest piece that a range of the common space begins with; none if it is empty or
    /// begins where there is nothing to use.
    fn piece(&self, address: u64, len: u64) -> Option<Piece> {
        let index = self.list.partition_point(|memory| memory.base <= address).checked_sub(1)?;
        let memory = &self.list[index];
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

    fn end(&self) -> u64 {
        self.list.last().map_or(0, |memory| memory.base + memory.bytes)
    }

    fn get(&self, id: MemoryId) -> Result<&Memory> {
        let missing = Error::MemoryNotFound { memory: id.0, count: self.list.len() };
        self.list.get(id.0 as usize).ok_or(missing)
    }
}

impl Piece {
    const fn len(&self) -> u64 {
        self.range.end - self.range.start
    }
}

/// Whether the guest lends the pages of its linear memory of this index.
pub(super) fn lends_pages(guest: &mut dyn LinearMemories, index: usize) -> bool {
    let bytes = guest.linear_memory(index).as_ptr_range();
    guest.whole_pages(index).is_some_and(|pages| pages.bytes().as_ptr_range() == bytes)
}

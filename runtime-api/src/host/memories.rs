//! The memories of a guest as its host has them: made, grown, read and written.

use std::ops::Range;

use polychord_abi::PAGE;

use super::Host;
use crate::Result;
use crate::memory::memory64::Storage;
use crate::memory::region::Region;
use crate::memory::segment::{Backing, LinearMemories, Segment};
use crate::memory::stats::MemoryId;

impl Host {
    pub(crate) fn is_enabled(&self) -> bool {
        !self.state().memories.is_empty()
    }

    /// Whether a memory has a segment in the linear memory of this index.
    pub(crate) fn has_segment_in(&self, index: usize) -> bool {
        self.state().memories.has_segment_in(index)
    }

    /// How much the linear memory of this index may grow by, in whole pages, in bytes.
    pub(crate) fn room(&self, guest: &dyn LinearMemories, index: usize) -> u64 {
        let own_limit = self.module.memories().get(index).and_then(|memory| memory.max_bytes);
        let limit = self.memory_limit().min(own_limit.unwrap_or(u64::MAX));
        let limit = limit.min(self.view.most(index));
        let room = limit.saturating_sub(self.view.size(guest, index));
        room - room % PAGE
    }

    /// What the linear memory of this index ends with that belongs to the host and to no memory;
    /// none any more if the guest has grown it since.
    pub(crate) fn spare(&self, guest: &dyn LinearMemories, index: usize) -> Option<Range<u64>> {
        let spare = self.state().spare.get(&index).cloned();
        spare.filter(|spare| spare.end == self.view.size(guest, index))
    }

    /// Keeps what linear memories end with for the next memory.
    pub(crate) fn keep_spare(&self, segments: impl IntoIterator<Item = Segment>) {
        let mut state = self.state();
        for Segment { memory, start, bytes } in segments {
            match bytes {
                0 => state.spare.remove(&memory),
                _ => state.spare.insert(memory, start..start + bytes),
            };
        }
    }

    /// Adds a memory of these regions: in these segments of the guest, or in the host.
    pub(crate) fn add_memory(
        &self,
        regions: Vec<Region>,
        segments: Option<Vec<Segment>>,
    ) -> Result<MemoryId> {
        let (backing, storage) = match segments {
            Some(segments) => {
                let backing = match Backing::in_guest(self.module.memories()) {
                    Backing::Native64 if self.view.is_lowered() => Backing::Flat64,
                    backing => backing,
                };
                (backing, Storage::Guest(segments))
            }
            None => {
                let bytes = regions.last().map_or(0, |last| last.offset + last.max_bytes);
                (Backing::Host, Storage::host(self.capabilities.engine, bytes)?)
            }
        };
        let bytes = regions.iter().map(|region| region.bytes).sum();
        let id = self.state().memories.add(regions, backing, storage)?;
        self.counters.memory64(bytes);
        let (engine, reason) = (self.capabilities.engine, backing.reason());
        tracing::debug!(engine, memory = id.0, bytes, ?backing, reason, "memory created");
        Ok(id)
    }

    /// Guest address of the memory's first byte, if it is in the guest.
    pub(crate) fn guest_start(&self, memory: MemoryId) -> Result<Option<u64>> {
        self.state().memories.guest_address(memory, 0)
    }

    /// A region of a memory as it is now.
    pub(crate) fn region(&self, memory: MemoryId, name: &str) -> Result<Region> {
        self.state().memories.region(memory, name).cloned()
    }

    /// Makes a region larger; its size before.
    pub(crate) fn grow_region(&self, memory: MemoryId, name: &str, bytes: u64) -> Result<u64> {
        let mut state = self.state();
        let region = state.memories.region(memory, name)?;
        let before = region.grow(bytes)?;
        self.counters.memory64(region.bytes - before);
        tracing::debug!(memory = memory.0, region = name, bytes = region.bytes, "region grown");
        Ok(before)
    }

    /// Address of a byte of a memory in the common space of all memories.
    pub(crate) fn address(&self, memory: MemoryId, offset: u64, len: u64) -> Result<u64> {
        self.state().memories.address(memory, offset, len)
    }

    pub(crate) fn read(
        &self,
        guest: &dyn LinearMemories,
        address: u64,
        out: &mut [u8],
    ) -> Result<()> {
        self.state().memories.read(guest, address, out)?;
        self.counters.read(out.len() as u64);
        Ok(())
    }

    pub(crate) fn write(
        &self,
        guest: &mut dyn LinearMemories,
        address: u64,
        data: &[u8],
    ) -> Result<()> {
        self.state().memories.write(guest, address, data)?;
        self.counters.write(data.len() as u64);
        Ok(())
    }

    pub(crate) fn copy_out(
        &self,
        guest: &mut dyn LinearMemories,
        address: u64,
        to: Range<u64>,
    ) -> Result<()> {
        let len = to.end - to.start;
        self.state().memories.copy_out(guest, address, to)?;
        self.counters.read(len);
        Ok(())
    }

    pub(crate) fn copy_in(
        &self,
        guest: &mut dyn LinearMemories,
        from: Range<u64>,
        address: u64,
    ) -> Result<()> {
        let len = from.end - from.start;
        self.state().memories.copy_in(guest, from, address)?;
        self.counters.write(len);
        Ok(())
    }
}

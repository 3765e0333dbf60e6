use std::ops::Range;

use memmap2::MmapMut;
use polychord_abi::PAGE;
use serde::Serialize;

use crate::{Error, Result};

/// Number of a memory in its runtime, in the order of creation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(transparent)]
pub struct MemoryId(pub u32);

/// What a 64-bit memory should be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MemorySpec {
    /// Size in bytes; rounded up to whole WebAssembly pages.
    pub bytes: u64,
    /// Where it lives.
    pub kind: MemoryKind,
}

/// Where a 64-bit memory lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum MemoryKind {
    /// In the guest's own linear memory, in a range that the host grows it by. The guest uses
    /// its bytes in place, after `memory64_map_layer`.
    Guest,
    /// In host memory, of any size. The guest copies by `memory64_read`, `memory64_write`
    /// and `memory64_load_layer`.
    Host,
}

/// Most bytes of a memory: 16 TiB, far beyond any machine, so that sums of sizes cannot
/// overflow.
pub(crate) const MAX_BYTES: u64 = 16 << 40;

impl MemorySpec {
    /// A memory in the guest's own linear memory.
    #[must_use]
    pub const fn guest(bytes: u64) -> Self {
        Self { bytes, kind: MemoryKind::Guest }
    }

    /// A memory in the host.
    #[must_use]
    pub const fn host(bytes: u64) -> Self {
        Self { bytes, kind: MemoryKind::Host }
    }

    /// The size in whole pages, in bytes.
    pub(crate) fn page_bytes(&self) -> Result<u64> {
        if self.bytes == 0 || self.bytes > MAX_BYTES {
            return Err(Error::TooLarge {
                what: "a 64-bit memory (which has at least one byte)".into(),
                asked: self.bytes,
                limit: MAX_BYTES,
                limited_by: "Polychord".into(),
            });
        }
        Ok(self.bytes.next_multiple_of(PAGE))
    }
}

/// The memories of one runtime. Together they are one space of 64-bit addresses, each
/// beginning where the one before it ends.
#[derive(Debug, Default)]
pub(crate) struct Memories(Vec<Memory>);

#[derive(Debug)]
struct Memory {
    /// Address of the first byte.
    base: u64,
    bytes: u64,
    backing: Backing,
}

#[derive(Debug)]
pub(crate) enum Backing {
    /// At this offset in the guest's linear memory.
    Guest { start: u64 },
    /// In pages of the host.
    Host(MmapMut),
}

impl Backing {
    /// Reserves pages of the host; none is in use before it is written to.
    pub(crate) fn host(engine: &'static str, bytes: u64) -> Result<Self> {
        let refuse = |reason: String| Error::OutOfMemory {
            engine,
            what: "a 64-bit memory in the host",
            asked: bytes,
            reason,
        };
        let len = usize::try_from(bytes).map_err(|error| refuse(error.to_string()))?;
        let mut options = memmap2::MmapOptions::new();
        let pages = options.len(len).no_reserve_swap().map_anon();
        pages.map(Self::Host).map_err(|error| refuse(error.to_string()))
    }
}

impl Memories {
    pub(crate) fn add(&mut self, bytes: u64, backing: Backing) -> Result<MemoryId> {
        let base = self.end();
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
        self.0.push(Memory { base, bytes, backing });
        Ok(MemoryId(id))
    }

    pub(crate) const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Size of a memory in bytes.
    pub(crate) fn bytes(&self, id: MemoryId) -> Result<u64> {
        Ok(self.get(id)?.bytes)
    }

    /// Where a memory begins in the guest's own linear memory, if it lives there.
    pub(crate) fn guest_start(&self, id: MemoryId) -> Result<Option<u64>> {
        match self.get(id)?.backing {
            Backing::Guest { start } => Ok(Some(start)),
            Backing::Host(_) => Ok(None),
        }
    }

    /// Address of a byte of a memory in the common space.
    pub(crate) fn address(&self, id: MemoryId, offset: u64, len: u64) -> Result<u64> {
        let memory = self.get(id)?;
        check_range("a memory access", offset, len, memory.bytes)?;
        Ok(memory.base + offset)
    }

    /// The pages of a memory and the position of `offset` in them. `guest` is the guest's
    /// linear memory.
    pub(crate) fn pages<'a>(
        &'a mut self,
        guest: &'a mut [u8],
        id: MemoryId,
        range: Range<u64>,
    ) -> Result<(&'a mut [u8], Range<usize>)> {
        let bytes = self.bytes(id)?;
        let len = range.end.saturating_sub(range.start);
        check_range("a layer", range.start, len, bytes)?;
        let memory = self.get_mut(id)?;
        match &mut memory.backing {
            Backing::Guest { start } => {
                let range = to_usize(*start + range.start, len, guest.len())?;
                Ok((guest, range))
            }
            Backing::Host(pages) => {
                let range = to_usize(range.start, len, pages.len())?;
                Ok((pages, range))
            }
        }
    }

    /// Copies from `address` of the common space into `out`.
    pub(crate) fn read(&self, guest: &[u8], address: u64, out: &mut [u8]) -> Result<()> {
        self.check("reading the 64-bit memory", address, out.len() as u64)?;
        let mut done = 0;
        for (memory, range) in self.pieces(address, out.len() as u64) {
            let (from, start) = match &memory.backing {
                Backing::Guest { start } => (guest, *start),
                Backing::Host(pages) => (&pages[..], 0),
            };
            let range = to_usize(start + range.start, range.end - range.start, from.len())?;
            out[done..done + range.len()].copy_from_slice(&from[range.clone()]);
            done += range.len();
        }
        Ok(())
    }

    /// Copies `data` to `address` of the common space.
    pub(crate) fn write(&mut self, guest: &mut [u8], address: u64, data: &[u8]) -> Result<()> {
        self.check("writing the 64-bit memory", address, data.len() as u64)?;
        let mut done = 0;
        for (memory, range) in self.pieces_mut(address, data.len() as u64) {
            let (to, start) = match &mut memory.backing {
                Backing::Guest { start } => (&mut *guest, *start),
                Backing::Host(pages) => (&mut pages[..], 0),
            };
            let range = to_usize(start + range.start, range.end - range.start, to.len())?;
            to[range.clone()].copy_from_slice(&data[done..done + range.len()]);
            done += range.len();
        }
        Ok(())
    }

    /// Copies from `address` of the common space to `to` in the guest's linear memory, which
    /// may overlap.
    pub(crate) fn copy_out(&self, guest: &mut [u8], address: u64, to: Range<usize>) -> Result<()> {
        self.check("memory64_read", address, to.len() as u64)?;
        if let Some(from) = self.within_guest(address, to.len() as u64, guest.len())? {
            guest.copy_within(from, to.start);
            return Ok(());
        }
        if self.within_host(address, to.len() as u64) {
            return self.read(&[], address, &mut guest[to]);
        }
        let mut bytes = zeros(to.len())?;
        self.read(guest, address, &mut bytes)?;
        guest[to].copy_from_slice(&bytes);
        Ok(())
    }

    /// Copies from `from` in the guest's linear memory to `address` of the common space, which
    /// may overlap.
    pub(crate) fn copy_in(
        &mut self,
        guest: &mut [u8],
        from: Range<usize>,
        address: u64,
    ) -> Result<()> {
        self.check("memory64_write", address, from.len() as u64)?;
        if let Some(to) = self.within_guest(address, from.len() as u64, guest.len())? {
            guest.copy_within(from, to.start);
            return Ok(());
        }
        if self.within_host(address, from.len() as u64) {
            return self.write(&mut [], address, &guest[from]);
        }
        let mut bytes = zeros(from.len())?;
        bytes.copy_from_slice(&guest[from]);
        self.write(guest, address, &bytes)
    }

    /// The range of the guest's linear memory that a range of the common space is, if it is one.
    fn within_guest(&self, address: u64, len: u64, size: usize) -> Result<Option<Range<usize>>> {
        let mut pieces = self.pieces(address, len);
        match (pieces.next(), pieces.next()) {
            (Some((Memory { backing: Backing::Guest { start }, .. }, range)), None) => {
                to_usize(start + range.start, len, size).map(Some)
            }
            _ => Ok(None),
        }
    }

    /// Whether a range of the common space touches no memory in the guest.
    fn within_host(&self, address: u64, len: u64) -> bool {
        self.pieces(address, len).all(|(memory, _)| matches!(memory.backing, Backing::Host(_)))
    }

    fn end(&self) -> u64 {
        self.0.last().map_or(0, |memory| memory.base + memory.bytes)
    }

    fn check(&self, operation: &'static str, address: u64, len: u64) -> Result<()> {
        check_range(operation, address, len, self.end())
    }

    fn get(&self, id: MemoryId) -> Result<&Memory> {
        let missing = Error::MemoryNotFound { memory: id.0, count: self.0.len() };
        self.0.get(id.0 as usize).ok_or(missing)
    }

    fn get_mut(&mut self, id: MemoryId) -> Result<&mut Memory> {
        let missing = Error::MemoryNotFound { memory: id.0, count: self.0.len() };
        self.0.get_mut(id.0 as usize).ok_or(missing)
    }

    /// The memories that a range of the common space touches, each with its part of it.
    fn pieces(&self, address: u64, len: u64) -> impl Iterator<Item = (&Memory, Range<u64>)> {
        self.0.iter().filter_map(move |memory| Some((memory, memory.part(address, len)?)))
    }

    fn pieces_mut(
        &mut self,
        address: u64,
        len: u64,
    ) -> impl Iterator<Item = (&mut Memory, Range<u64>)> {
        self.0.iter_mut().filter_map(move |memory| {
            let part = memory.part(address, len)?;
            Some((memory, part))
        })
    }
}

impl Memory {
    /// The part of `address..address + len` that lies here, as offsets in this memory.
    fn part(&self, address: u64, len: u64) -> Option<Range<u64>> {
        let start = address.max(self.base);
        let end = (address + len).min(self.base + self.bytes);
        (start < end).then(|| start - self.base..end - self.base)
    }
}

/// Checks that `offset..offset + len` lies in `0..size`, up to the last byte of `u64`.
pub(crate) fn check_range(operation: &'static str, offset: u64, len: u64, size: u64) -> Result<()> {
    match offset.checked_add(len) {
        Some(end) if end <= size => Ok(()),
        _ => Err(Error::OutOfRange { operation, offset, len, size }),
    }
}

/// Room for a transfer that crosses the edge of a memory in the guest: its parts could overlap
/// with each other's destinations.
fn zeros(len: usize) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    bytes.try_reserve_exact(len).map_err(|error| Error::OutOfMemory {
        engine: "the host",
        what: "room for a transfer across memories",
        asked: len as u64,
        reason: error.to_string(),
    })?;
    bytes.resize(len, 0);
    Ok(bytes)
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
    use proptest::prelude::*;

    use super::*;

    fn memories() -> Memories {
        let mut memories = Memories::default();
        memories.add(2 * PAGE, Backing::Guest { start: PAGE }).unwrap();
        memories.add(PAGE, Backing::host("test", PAGE).unwrap()).unwrap();
        memories
    }

    #[test]
    fn sizes_are_checked_to_the_last_byte() {
        assert!(MemorySpec::host(0).page_bytes().is_err());
        assert!(MemorySpec::host(MAX_BYTES + 1).page_bytes().is_err());
        assert_eq!(MemorySpec::host(1).page_bytes().unwrap(), PAGE);
        assert_eq!(MemorySpec::host(MAX_BYTES).page_bytes().unwrap(), MAX_BYTES);
        for (offset, len) in [(u64::MAX, 1), (u64::MAX, u64::MAX), (1, u64::MAX), (0, 4 * PAGE)] {
            assert!(check_range("test", offset, len, 3 * PAGE).is_err());
        }
        assert!(check_range("test", u64::MAX, 0, u64::MAX).is_ok());
    }

    proptest! {
        /// Whatever is written is read back, also across the edge between a memory in the
        /// guest and one in the host, and nothing beside it changes.
        #[test]
        fn writes_read_back(address in 0..3 * PAGE + 64, data in prop::collection::vec(any::<u8>(), 0..300)) {
            let mut memories = memories();
            let size = usize::try_from(4 * PAGE).unwrap();
            let mut guest = vec![0; size];
            let fits = address + data.len() as u64 <= 3 * PAGE;
            prop_assert_eq!(memories.write(&mut guest, address, &data).is_ok(), fits);
            let mut all = vec![0; usize::try_from(3 * PAGE).unwrap()];
            memories.read(&guest, 0, &mut all).unwrap();
            let mut expected = vec![0; all.len()];
            if fits {
                let start = usize::try_from(address).unwrap();
                expected[start..start + data.len()].copy_from_slice(&data);
            }
            prop_assert_eq!(&all, &expected);
            prop_assert!(guest[..usize::try_from(PAGE).unwrap()].iter().all(|byte| *byte == 0));
        }

        /// The guest's own copies agree with the host's.
        #[test]
        fn guest_copies_agree(address in 0..3 * PAGE, len in 0..200_usize, at in 0..5000_usize) {
            let mut memories = memories();
            let mut guest = vec![0; usize::try_from(4 * PAGE).unwrap()];
            for (i, byte) in guest[..8192].iter_mut().enumerate() {
                *byte = u8::try_from(i % 251).unwrap();
            }
            let expected = guest[at..at + len].to_vec();
            let fits = address + len as u64 <= 3 * PAGE;
            prop_assert_eq!(memories.copy_in(&mut guest, at..at + len, address).is_ok(), fits);
            if fits {
                let mut read = vec![0; len];
                memories.read(&guest, address, &mut read).unwrap();
                prop_assert_eq!(&read, &expected);
                memories.copy_out(&mut guest, address, 0..len).unwrap();
                prop_assert_eq!(&guest[..len], &expected[..]);
            }
        }
    }
}

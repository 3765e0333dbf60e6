//! One memory of 64-bit addresses: its regions, and where its bytes are.

use std::ops::Range;

use polychord_plan::range::check_range;

use crate::memory::mapping::HostPages;
use crate::memory::region::Region;
use crate::memory::segment::{Backing, LinearMemories, Segment};
use crate::memory::view::View;
use crate::stats::{Histogram, in_huge_pages, resident};
use crate::{Error, Result};

/// A memory, and its address in the space of all memories of its runtime.
#[derive(Debug)]
pub(crate) struct Memory {
    /// Address of the first byte.
    pub(crate) base: u64,
    /// What it may grow to.
    pub(crate) bytes: u64,
    pub(crate) regions: Vec<Region>,
    pub(crate) backing: Backing,
    pub(crate) storage: Storage,
    pub(crate) load_times: Histogram,
    /// Whether huge pages were asked for.
    pub(crate) wants_huge: bool,
}

/// Where the bytes of a memory are.
#[derive(Debug)]
pub(crate) enum Storage {
    /// In these parts of the guest's linear memories, one after the other.
    Guest(Vec<Segment>),
    /// In pages of the host.
    Host(HostPages),
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

impl Memory {
    /// The segments, if it is in the guest.
    pub(crate) fn segments(&self) -> &[Segment] {
        match &self.storage {
            Storage::Guest(segments) => segments,
            Storage::Host(_) => &[],
        }
    }

    /// Bytes of it that are in RAM: nothing behind the size of a region is.
    pub(crate) fn resident(&self, guest: &dyn LinearMemories, view: &View) -> Option<u64> {
        self.in_use(guest, view)?.into_iter().map(resident).sum()
    }

    /// Bytes of it that are in huge pages.
    pub(crate) fn huge(&self, guest: &dyn LinearMemories, view: &View) -> Option<u64> {
        match self.wants_huge {
            true => in_huge_pages(&self.in_use(guest, view)?),
            false => Some(0),
        }
    }

    /// The bytes of all regions, as far as they are in use.
    fn in_use<'a>(&'a self, guest: &'a dyn LinearMemories, view: &View) -> Option<Vec<&'a [u8]>> {
        let mut pieces = Vec::new();
        for region in &self.regions {
            let mut offset = region.offset;
            while offset < region.end() {
                let left = self.extent(offset)? - offset;
                let bytes = match (self.segment(offset), &self.storage) {
                    (Some((segment, within)), _) => {
                        let start = segment.start + (offset - within.start);
                        let (index, range) = view.piece(segment.memory, start, left);
                        let all = guest.linear_memory(index);
                        &all[to_usize(range.start, range.end - range.start, all.len()).ok()?]
                    }
                    (None, Storage::Host(pages)) => {
                        let all = pages.bytes();
                        &all[to_usize(offset, left, all.len()).ok()?]
                    }
                    (None, Storage::Guest(_)) => return None,
                };
                offset += bytes.len() as u64;
                pieces.push(bytes);
            }
        }
        Some(pieces)
    }

    /// The end of what is in one region and one segment, from an offset on; none if nothing is.
    pub(crate) fn extent(&self, offset: u64) -> Option<u64> {
        let region = self.regions.iter().find(|region| region.end() > offset)?;
        let end = self.segment(offset).map_or(u64::MAX, |(_, within)| within.end);
        (region.offset <= offset).then_some(region.end().min(end))
    }

    /// The segment that a byte is in, and the part of this memory that the segment is.
    pub(crate) fn segment(&self, offset: u64) -> Option<(&Segment, Range<u64>)> {
        let mut start = 0;
        self.segments().iter().find_map(|segment| {
            let within = start..start + segment.bytes;
            start = within.end;
            within.contains(&offset).then_some((segment, within))
        })
    }
}

/// The range as an index, once it is known to lie in a slice of `size` bytes.
pub(crate) fn to_usize(start: u64, len: u64, size: usize) -> Result<Range<usize>> {
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

//! The memories that a module declares, as they are found in those that its engine has.
//!
//! They are the same ones, unless the module was lowered: then each 64-bit memory is several 32-bit
//! memories of the engine, its segments. Above this file there are only the memories that the module
//! declares, and below it, in [`LinearMemories`] and [`Instance`], only those of the engine.

#[cfg(test)]
mod tests;

use std::ops::Range;
use std::sync::Arc;

use polychord_abi::PAGE;
use polychord_memory64_lowering::{Layout, limit_name};
use polychord_plan::range::check_range;

use crate::memory::segment::LinearMemories;
use crate::module::{GlobalAt, ModuleInfo};
use crate::spi::Instance;
use crate::value::Value;
use crate::{Error, Result};

/// How the memories that a module declares are found in those that its engine has.
#[derive(Clone, Debug, Default)]
pub(crate) struct View(Option<Arc<Lowering>>);

/// What lowering has made of a module.
#[derive(Debug)]
struct Lowering {
    /// The module as its engine has it.
    module: Arc<ModuleInfo>,
    segment_bytes: u64,
    /// By their index in [`ModuleInfo::memories`] of the module as it was.
    memories: Vec<Divided>,
    /// For each import of the module as it was, its index now, or that of its first segment.
    imports: Vec<usize>,
    /// For each divided memory, exported or not, its index in the module and the most pages that it
    /// can have.
    limits: Vec<(u32, u64)>,
}

/// A memory that the module declares.
#[derive(Debug)]
struct Divided {
    /// The engine's memories that it consists of, by their index in [`ModuleInfo::memories`] now.
    segments: Vec<usize>,
    /// The most bytes that it can have, if it was divided.
    max_bytes: u64,
}

impl View {
    /// How to see a lowered module as what it was made of.
    ///
    /// # Errors
    ///
    /// What is wrong, in words, if the layout is not that of the module.
    pub(crate) fn lowered(
        declared: &ModuleInfo,
        module: Arc<ModuleInfo>,
        layout: &Layout,
    ) -> Result<Self, String> {
        let divided = |index: u32| layout.memories.iter().find(|memory| memory.index == index);
        // Indices in the lowered module: what comes before a memory may have become several.
        let first = |index: u32| {
            let before = layout.memories.iter().filter(|memory| memory.index < index);
            before.fold(index, |at, memory| at.saturating_add(memory.segments.saturating_sub(1)))
        };
        let found = |index: u32| {
            let at = module.memories().iter().position(|memory| memory.index == index);
            at.ok_or_else(|| format!("segment {index} of its memories is not exported"))
        };
        let memory = |index: u32| {
            let start = first(index);
            let (count, pages) =
                divided(index).map_or((1, 1 << 16), |it| (it.segments, it.maximum));
            let segments =
                (start..start.saturating_add(count)).map(found).collect::<Result<_, _>>()?;
            Ok::<_, String>(Divided { segments, max_bytes: pages.saturating_mul(PAGE) })
        };
        let memories = declared.memories().iter().map(|declared| memory(declared.index));
        let (mut imports, mut next, mut memory) = (Vec::new(), 0, 0);
        for import in declared.imports() {
            imports.push(next);
            next += 1;
            if import.ty.is_memory() {
                let segments = divided(memory).map_or(1, |it| it.segments);
                next += usize::try_from(segments).unwrap_or(1) - 1;
                memory += 1;
            }
        }
        Ok(Self(Some(Arc::new(Lowering {
            memories: memories.collect::<Result<_, _>>()?,
            segment_bytes: layout.segment_bytes(),
            imports,
            limits: layout.memories.iter().map(|memory| (memory.index, memory.maximum)).collect(),
            module,
        }))))
    }

    /// Whether 64-bit memories are segments here.
    pub(crate) const fn is_lowered(&self) -> bool {
        self.0.is_some()
    }

    /// The module as its engine has it, if it is not the module that was given.
    pub(crate) fn module(&self) -> Option<&Arc<ModuleInfo>> {
        self.0.as_deref().map(|lowering| &lowering.module)
    }

    /// The engine's memory that a memory begins in.
    pub(crate) fn first(&self, memory: usize) -> usize {
        match &self.0 {
            None => memory,
            Some(lowering) => lowering.segments(memory).first().copied().unwrap_or(usize::MAX),
        }
    }

    /// Bytes of a memory now: those of its segments, up to the first that is not full.
    pub(crate) fn size(&self, guest: &dyn LinearMemories, memory: usize) -> u64 {
        let Some(lowering) = &self.0 else { return guest.linear_memory(memory).len() as u64 };
        let mut size = 0;
        for segment in lowering.segments(memory) {
            let bytes = guest.linear_memory(*segment).len() as u64;
            size += bytes;
            if bytes < lowering.segment_bytes {
                break;
            }
        }
        size
    }

    /// The most bytes that a memory can have, whatever its limits.
    pub(crate) fn most(&self, memory: usize) -> u64 {
        let memory = self.0.as_deref().and_then(|lowering| lowering.memories.get(memory));
        memory.map_or(u64::MAX, |memory| memory.max_bytes)
    }

    /// The longest piece in one memory of the engine that a range begins with: that memory, and where
    /// the piece is in it.
    pub(crate) fn piece(&self, memory: usize, address: u64, len: u64) -> (usize, Range<u64>) {
        let Some(lowering) = &self.0 else { return (memory, address..address.saturating_add(len)) };
        let bytes = lowering.segment_bytes;
        let segment = usize::try_from(address / bytes).unwrap_or(usize::MAX);
        let segment = lowering.segments(memory).get(segment).copied().unwrap_or(usize::MAX);
        let start = address % bytes;
        (segment, start..start + len.min(bytes - start))
    }

    /// A range of a memory, if it is there and in one memory of the engine.
    pub(crate) fn slice<'a>(
        &self,
        guest: &'a dyn LinearMemories,
        memory: usize,
        range: Range<u64>,
    ) -> Option<&'a [u8]> {
        self.is_there(guest, memory, &range).then_some(())?;
        let (segment, range) = self.whole(memory, range)?;
        guest.linear_memory(segment).get(range)
    }

    /// A range of a memory, mutably, if it is there and in one memory of the engine.
    pub(crate) fn slice_mut<'a>(
        &self,
        guest: &'a mut dyn LinearMemories,
        memory: usize,
        range: Range<u64>,
    ) -> Option<&'a mut [u8]> {
        self.is_there(guest, memory, &range).then_some(())?;
        let (segment, range) = self.whole(memory, range)?;
        guest.linear_memory_mut(segment).get_mut(range)
    }

    /// Copies out of a memory.
    pub(crate) fn read(
        &self,
        guest: &dyn LinearMemories,
        memory: usize,
        mut address: u64,
        mut out: &mut [u8],
    ) -> Result<()> {
        let size = self.size(guest, memory);
        check_range("reading a memory of the guest", address, out.len() as u64, size)?;
        while !out.is_empty() {
            let (segment, range) = self.piece(memory, address, out.len() as u64);
            let bytes = inside(guest.linear_memory(segment), &range)?;
            let (now, later) = out.split_at_mut(bytes.len());
            now.copy_from_slice(bytes);
            (address, out) = (address + now.len() as u64, later);
        }
        Ok(())
    }

    /// Copies into a memory.
    pub(crate) fn write(
        &self,
        guest: &mut dyn LinearMemories,
        memory: usize,
        mut address: u64,
        mut data: &[u8],
    ) -> Result<()> {
        let size = self.size(guest, memory);
        check_range("writing a memory of the guest", address, data.len() as u64, size)?;
        while !data.is_empty() {
            let (segment, range) = self.piece(memory, address, data.len() as u64);
            let bytes = inside_mut(guest.linear_memory_mut(segment), &range)?;
            let (now, later) = data.split_at(bytes.len());
            bytes.copy_from_slice(now);
            (address, data) = (address + now.len() as u64, later);
        }
        Ok(())
    }

    /// Fills a range of a memory, part by part, given how many bytes of the range are before each.
    pub(crate) fn fill(
        &self,
        guest: &mut dyn LinearMemories,
        memory: usize,
        range: Range<u64>,
        mut fill: impl FnMut(u64, &mut [u8]) -> Result<()>,
    ) -> Result<()> {
        let mut address = range.start;
        while address < range.end {
            let (segment, piece) = self.piece(memory, address, range.end - address);
            let bytes = inside_mut(guest.linear_memory_mut(segment), &piece)?;
            fill(address - range.start, bytes)?;
            address += piece.end - piece.start;
        }
        Ok(())
    }

    /// Copies between memories, or within one, where the ranges may overlap. Both are there.
    pub(crate) fn copy(
        &self,
        guest: &mut dyn LinearMemories,
        (from, range): (usize, Range<u64>),
        (to, at): (usize, u64),
    ) -> Result<()> {
        let len = range.end - range.start;
        if let (Some((source, from)), Some((target, to))) =
            (self.whole(from, range.clone()), self.whole(to, at..at + len))
            && source == target
        {
            guest.linear_memory_mut(target).copy_within(from, to.start);
            return Ok(());
        }
        // Engines show one memory at a time.
        let mut room = [0; 16 << 10];
        let mut done = 0;
        while done < len {
            let part = (len - done).min(room.len() as u64);
            // What moves up within a memory is moved from its end on.
            let skip = if from == to && at > range.start { len - done - part } else { done };
            let bytes = &mut room[..to_usize(part)?];
            self.read(guest, from, range.start + skip, bytes)?;
            self.write(guest, to, at + skip, bytes)?;
            done += part;
        }
        Ok(())
    }

    /// Makes a memory larger by whole pages; its size before, in pages. The highest segment grows
    /// first, so that the size stays what it was if the engine has no more memory on the way.
    ///
    /// # Errors
    ///
    /// [`Error::OutOfMemory`] if the engine cannot.
    pub(crate) fn grow(&self, guest: &mut dyn Instance, memory: usize, pages: u64) -> Result<u64> {
        let Some(lowering) = &self.0 else { return guest.grow(memory, pages) };
        let before = self.size(&*guest, memory) / PAGE;
        let full = lowering.segment_bytes / PAGE;
        let wanted = before.saturating_add(pages);
        for (index, segment) in lowering.segments(memory).iter().enumerate().rev() {
            let start = (index as u64).saturating_mul(full);
            let wanted = wanted.saturating_sub(start).min(full);
            let has = guest.linear_memory(*segment).len() as u64 / PAGE;
            if wanted > has {
                guest.grow(*segment, wanted - has)?;
            }
        }
        Ok(before)
    }

    /// Has memories grow to no more than this, also when the guest grows them. Called before any of its
    /// code has run.
    ///
    /// # Errors
    ///
    /// The errors of the engine.
    pub(crate) fn limit(&self, guest: &mut dyn Instance, bytes: u64) -> Result<()> {
        for (memory, pages) in self.0.iter().flat_map(|lowering| &lowering.limits) {
            let most = Value::I64((*pages).min(bytes / PAGE).cast_signed());
            guest.set_global(GlobalAt::Export(&limit_name(*memory)), most)?;
        }
        Ok(())
    }

    /// Where the engine has a global.
    pub(crate) fn global<'a>(&self, at: GlobalAt<'a>) -> GlobalAt<'a> {
        match (at, &self.0) {
            (GlobalAt::Import(index), Some(lowering)) => {
                GlobalAt::Import(lowering.imports.get(index).copied().unwrap_or(usize::MAX))
            }
            (at, _) => at,
        }
    }

    /// For each import that the module declares, how many the engine defines in its place, and the most pages
    /// of each that is a segment.
    pub(crate) fn imports(&self) -> Option<(Vec<usize>, u64)> {
        let lowering = self.0.as_ref()?;
        let ends = lowering.imports.iter().skip(1).copied();
        let ends = ends.chain([lowering.module.imports().len()]);
        let counts = ends.zip(&lowering.imports).map(|(end, start)| end.saturating_sub(*start));
        Some((counts.collect(), lowering.segment_bytes / PAGE))
    }

    /// Whether a range is in a memory, whose segments may have more pages than count.
    fn is_there(&self, guest: &dyn LinearMemories, memory: usize, range: &Range<u64>) -> bool {
        !self.is_lowered() || range.end <= self.size(guest, memory)
    }

    /// A range as one of an engine's memory, if it is in one. An empty one is anywhere.
    fn whole(&self, memory: usize, range: Range<u64>) -> Option<(usize, Range<usize>)> {
        let len = range.end.checked_sub(range.start)?;
        let (segment, piece) = self.piece(memory, range.start, len);
        let is_whole = piece.end.checked_sub(piece.start)? == len;
        let piece = usize::try_from(piece.start).ok()?..usize::try_from(piece.end).ok()?;
        is_whole.then_some((segment, piece))
    }
}

impl Lowering {
    fn segments(&self, memory: usize) -> &[usize] {
        self.memories.get(memory).map_or(&[], |memory| &memory.segments)
    }
}

/// The bytes of a range.
fn inside<'a>(bytes: &'a [u8], range: &Range<u64>) -> Result<&'a [u8]> {
    let outside = outside(range, bytes.len());
    bytes.get(to_usize(range.start)?..to_usize(range.end)?).ok_or(outside)
}

/// The bytes of a range, mutably.
fn inside_mut<'a>(bytes: &'a mut [u8], range: &Range<u64>) -> Result<&'a mut [u8]> {
    let outside = outside(range, bytes.len());
    bytes.get_mut(to_usize(range.start)?..to_usize(range.end)?).ok_or(outside)
}

fn outside(range: &Range<u64>, size: usize) -> Error {
    let (offset, len, size) = (range.start, range.end - range.start, size as u64);
    Error::OutOfRange { operation: "a memory of the guest", offset, len, size }
}

fn to_usize(number: u64) -> Result<usize> {
    usize::try_from(number).map_err(|_| Error::OutOfRange {
        operation: "a memory of the guest",
        offset: number,
        len: 0,
        size: usize::MAX as u64,
    })
}

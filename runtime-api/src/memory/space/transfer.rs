//! Copying between the common space of all memories and the host, or the guest's own memory.

use std::ops::Range;

use polychord_plan::range::check_range;

use super::{Memories, Piece, Place};
use crate::memory::memory64::Storage;
use crate::memory::segment::LinearMemories;
use crate::{Error, Result};

/// The pieces of a transfer: those in the guest's linear memory of index 0, and others.
struct Transfer {
    main: Vec<(Piece, usize)>,
    others: Vec<(Piece, usize)>,
}

impl Memories {
    /// Copies from `address` of the common space into `out`.
    pub(crate) fn read(
        &self,
        guest: &dyn LinearMemories,
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
        guest: &mut dyn LinearMemories,
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
        guest: &mut dyn LinearMemories,
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
        guest: &mut dyn LinearMemories,
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
    fn size(&self, guest: &dyn LinearMemories, place: Place) -> usize {
        match place {
            Place::Linear(index) => guest.linear_memory(index).len(),
            Place::Host(memory) => self.host(memory).len(),
        }
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
}

/// Copies between linear memories of a guest, or within one, where the ranges may overlap.
fn copy_between(
    guest: &mut dyn LinearMemories,
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

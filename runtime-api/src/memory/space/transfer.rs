//! Copying between the common space of all memories and the host, or the guest's own memory.

use std::ops::Range;

use polychord_plan::range::check_range;

use super::{Memories, Piece, Place};
use crate::memory::memory64::{Storage, to_usize};
use crate::memory::segment::LinearMemories;
use crate::{Error, Result};

/// The pieces of a transfer: those in the guest's linear memory of index 0, and others.
struct Transfer {
    main: Vec<(Piece, u64)>,
    others: Vec<(Piece, u64)>,
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
        while let Some(Piece { place, range }) = self.piece(address, out.len() as u64) {
            let (now, later) =
                out.split_at_mut(to_usize(0, range.end - range.start, out.len())?.len());
            match place {
                Place::Linear(index) => self.view.read(guest, index, range.start, now)?,
                Place::Host(memory) => {
                    let bytes = self.host(memory);
                    now.copy_from_slice(
                        &bytes[to_usize(range.start, now.len() as u64, bytes.len())?],
                    );
                }
            }
            (address, out) = (address + now.len() as u64, later);
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
        while let Some(Piece { place, range }) = self.piece(address, data.len() as u64) {
            let (now, later) =
                data.split_at(to_usize(0, range.end - range.start, data.len())?.len());
            match place {
                Place::Linear(index) => self.view.write(guest, index, range.start, now)?,
                Place::Host(memory) => {
                    let bytes = self.host_mut(memory);
                    let range = to_usize(range.start, now.len() as u64, bytes.len())?;
                    bytes[range].copy_from_slice(now);
                }
            }
            (address, data) = (address + now.len() as u64, later);
        }
        Ok(())
    }

    /// Copies from `address` of the common space to `to` in the guest's linear memory of index
    /// 0, which may overlap.
    pub(crate) fn copy_out(
        &self,
        guest: &mut dyn LinearMemories,
        address: u64,
        to: Range<u64>,
    ) -> Result<()> {
        self.check("memory64_read", address, to.end - to.start)?;
        let Transfer { others, main } = self.transfer(address, to, |piece, at| at <= piece);
        // What comes from elsewhere overwrites only what has been moved.
        for (Piece { place, range }, at) in main.into_iter().chain(others) {
            match place {
                Place::Linear(index) => self.view.copy(guest, (index, range), (0, at))?,
                Place::Host(memory) => {
                    let bytes = self.host(memory);
                    let range = to_usize(range.start, range.end - range.start, bytes.len())?;
                    self.view.write(guest, 0, at, &bytes[range])?;
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
        from: Range<u64>,
        address: u64,
    ) -> Result<()> {
        self.check("memory64_write", address, from.end - from.start)?;
        let Transfer { others, main } = self.transfer(address, from, |piece, at| piece <= at);
        let view = self.view.clone();
        // What goes elsewhere is read before anything is overwritten.
        for (Piece { place, range }, at) in others.into_iter().chain(main) {
            let len = range.end - range.start;
            match place {
                Place::Linear(index) => {
                    view.copy(guest, (0, at..at + len), (index, range.start))?;
                }
                Place::Host(memory) => {
                    let bytes = self.host_mut(memory);
                    let range = to_usize(range.start, len, bytes.len())?;
                    view.read(guest, 0, at, &mut bytes[range])?;
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
        range: Range<u64>,
        moves_down: impl Fn(u64, u64) -> bool,
    ) -> Transfer {
        let (mut others, mut down, mut up) = (Vec::new(), Vec::new(), Vec::new());
        let mut at = range.start;
        while let Some(piece) = self.piece(address, range.end - at) {
            let (len, start) = (piece.len(), piece.range.start);
            address += len;
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
        match self.list.get(memory).map(|memory| &memory.storage) {
            Some(Storage::Host(pages)) => pages.bytes(),
            _ => &[],
        }
    }

    fn host_mut(&mut self, memory: usize) -> &mut [u8] {
        match self.list.get_mut(memory).map(|memory| &mut memory.storage) {
            Some(Storage::Host(pages)) => pages.bytes_mut(),
            _ => &mut [],
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

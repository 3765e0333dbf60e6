//! Images in the linear memories of a guest.

use std::ops::Range;

use polychord_plan::range::check_range;

use super::Host;
use super::layers::out_of_mappings;
use crate::memory::image::Image;
use crate::memory::memory64::to_usize;
use crate::memory::segment::LinearMemories;
use crate::{Error, Result};

impl Host {
    /// Gives a linear memory the bytes of a range of an image; tells how many of them are shared. The guest does not
    /// run.
    pub(crate) fn write_image(
        &self,
        guest: &mut dyn LinearMemories,
        memory: usize,
        address: u64,
        image: &Image,
        range: Range<u64>,
    ) -> Result<u64> {
        image.check(&range)?;
        let mut shared = 0;
        self.each_piece(guest, memory, address, range.end - range.start, |guest, at, skip| {
            let from = (image, range.start + skip);
            let mapping = self.capabilities.mapping;
            let shown = self.state().shown.write(guest, at, from, mapping);
            shared += shown?;
            Ok(())
        })?;
        Ok(shared)
    }

    /// Makes a range of a linear memory zero, with own pages in the place of shared ones. The guest does not run.
    pub(crate) fn release_image(
        &self,
        guest: &mut dyn LinearMemories,
        memory: usize,
        range: Range<u64>,
    ) -> Result<()> {
        let len = range.end.checked_sub(range.start).unwrap_or(u64::MAX);
        self.each_piece(guest, memory, range.start, len, |guest, (memory, range), _| {
            let released = self.state().shown.release(guest, memory, &range);
            released.map_err(|error| Error::OutOfMemory {
                engine: self.capabilities.engine,
                what: "fresh pages in the place of shared ones",
                asked: range.len() as u64,
                reason: format!("{error}{}", out_of_mappings(&error)),
            })
        })
    }

    /// Does something with each part of a range that is in one memory of the engine, given how many bytes are before
    /// it.
    fn each_piece(
        &self,
        guest: &mut dyn LinearMemories,
        memory: usize,
        address: u64,
        len: u64,
        mut work: impl FnMut(&mut dyn LinearMemories, (usize, Range<usize>), u64) -> Result<()>,
    ) -> Result<()> {
        let size = self.view.size(guest, memory);
        check_range("an image in a memory of the guest", address, len, size)?;
        let mut done = 0;
        while done < len {
            let (index, piece) = self.view.piece(memory, address + done, len - done);
            let bytes = piece.end - piece.start;
            let range = to_usize(piece.start, bytes, guest.linear_memory(index).len())?;
            work(guest, (index, range), done)?;
            done += bytes;
        }
        Ok(())
    }
}

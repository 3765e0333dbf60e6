//! The place of a layer in its memory: what loading and releasing do to its bytes.
//!
//! A layer has the 64 KiB pages that it touches for itself. Loading makes the rest of them zero
//! and releasing all of them, so that the bytes do not depend on the engine, on the machine's
//! pages, or on how the layer was brought in.

use std::fs::File;
use std::io;
use std::ops::Range;

use polychord_abi::PAGE;

use crate::memory::mapping::{self, Watch, WholePages, make_zero};

/// The bytes of a layer, among all those of the memory that they are in.
#[derive(Debug)]
pub(crate) struct Place<'a> {
    memory: MemoryBytes<'a>,
    range: Range<usize>,
}

/// All bytes of a memory, and what may be done to them.
#[derive(Debug)]
pub(crate) enum MemoryBytes<'a> {
    /// Their pages may be replaced.
    Pages(WholePages<'a>),
    /// They may be written to, and no more.
    Plain(&'a mut [u8]),
}

impl<'a> Place<'a> {
    /// A range that lies in the memory.
    pub(crate) const fn new(memory: MemoryBytes<'a>, range: Range<usize>) -> Self {
        Self { memory, range }
    }

    /// The layer's bytes.
    pub(crate) fn bytes(&mut self) -> &mut [u8] {
        &mut self.memory.all()[self.range.clone()]
    }

    /// Maps a file's pages over the layer, if there are pages to replace and the alignment allows
    /// it; makes the rest of the layer's 64 KiB pages zero.
    ///
    /// # Errors
    ///
    /// What the operating system says. The layer is then zeros, or as it was.
    ///
    /// # Safety
    ///
    /// That of [`mapping::map_file`], for as long as the result lives.
    #[allow(unsafe_code, reason = "the contract is passed on")]
    pub(crate) unsafe fn map(&mut self, file: &File, offset: u64) -> io::Result<Option<Watch>> {
        let MemoryBytes::Pages(pages) = &mut self.memory else { return Ok(None) };
        // SAFETY: the caller's promise.
        let mapped =
            unsafe { mapping::map_file(pages.reborrow(), self.range.clone(), file, offset)? };
        if mapped.is_some() {
            self.clear_around();
        }
        Ok(mapped)
    }

    /// Asks for huge pages, where pages may be replaced.
    pub(crate) fn want_huge_pages(&mut self) {
        if let MemoryBytes::Pages(pages) = &mut self.memory {
            mapping::want_huge_pages(pages.reborrow(), &self.range);
        }
    }

    /// Makes the rest of the layer's 64 KiB pages zero.
    pub(crate) fn clear_around(&mut self) {
        let (range, own) = (self.range.clone(), self.own());
        for part in [own.start..range.start, range.end..own.end] {
            match &mut self.memory {
                // In the page that the layer begins or ends in, bytes are written; others are
                // given back.
                MemoryBytes::Pages(pages) => mapping::discard(pages.reborrow(), part),
                MemoryBytes::Plain(bytes) => make_zero(&mut bytes[part]),
            }
        }
    }

    /// Makes all of the layer's 64 KiB pages zero, and gives them back if that is possible.
    /// `watch` is that of its mapping, if it is mapped.
    ///
    /// # Errors
    ///
    /// What the operating system says. The layer is then as it was.
    pub(crate) fn clear(&mut self, watch: Option<&Watch>) -> io::Result<()> {
        if let Some(watch) = watch {
            match &mut self.memory {
                MemoryBytes::Pages(pages) if watch.is_at(&pages.bytes()[self.range.clone()]) => {
                    mapping::unmap_file(pages.reborrow(), &self.range)?;
                }
                _ => return Err(io::Error::other("the engine does not lend its pages any more")),
            }
            self.clear_around();
            return Ok(());
        }
        let own = self.own();
        match &mut self.memory {
            MemoryBytes::Pages(pages) => mapping::discard(pages.reborrow(), own),
            MemoryBytes::Plain(bytes) => make_zero(&mut bytes[own]),
        }
        Ok(())
    }

    /// The 64 KiB pages that the layer touches.
    fn own(&mut self) -> Range<usize> {
        let page = usize::try_from(PAGE).unwrap_or(usize::MAX);
        let len = self.memory.all().len();
        let start = self.range.start - self.range.start % page;
        let end = self.range.end.checked_next_multiple_of(page).unwrap_or(len);
        start..end.min(len)
    }
}

impl MemoryBytes<'_> {
    /// All of them.
    pub(crate) fn all(&mut self) -> &mut [u8] {
        match self {
            Self::Pages(pages) => pages.bytes_mut(),
            Self::Plain(bytes) => bytes,
        }
    }
}

//! Replacing whole pages of a guest's memory: by file pages, or by fresh zeros.
//!
//! The rules (see ARCHITECTURE.md, "Mapping"): the target is a range that the guest's
//! allocator does not own; file pages are private and writable, never read-only, because an
//! engine may write to guest memory from its own code; and what is taken away is replaced by
//! anonymous pages, never left as a hole.
#![allow(unsafe_code)]

#[cfg(target_os = "linux")]
mod lost;

use std::fs::File;
use std::io;
use std::ops::Range;

pub(crate) use lost::{Watch, keep_handler};

/// Makes `range` of `memory` show the bytes of `file` from `offset` on, and zeros in what
/// remains of its first and last page, just as copying into fresh memory would leave it.
///
/// Pages that the file loses later become zeros, which the result remembers; it must live as
/// long as the mapping. Returns none, having done nothing, if `range` and `offset` do not lie
/// alike within a page of this machine, or if there are too many mappings to look after.
///
/// # Errors
///
/// What the operating system says. `memory` is then unchanged.
///
/// # Safety
///
/// - `memory` must be pages of which [`Mapping::whole_pages`](crate::Mapping::whole_pages)
///   holds, and no other layer may use the pages that `range` touches.
/// - The file must contain the whole range, and stay unchanged for as long as the mapping
///   does: the contract of [`Source::open_mapped`](crate::Source::open_mapped).
#[cfg(unix)]
pub(crate) unsafe fn map_file(
    memory: &mut [u8],
    range: Range<usize>,
    file: &File,
    offset: u64,
) -> io::Result<Option<Watch>> {
    use rustix::mm::{MapFlags, ProtFlags, mmap};

    let page = rustix::param::page_size();
    let Some(pages) = whole_pages(memory, &range, page) else { return Ok(None) };
    let delta = range.start - pages.start;
    let Some(file_start) = offset.checked_sub(delta as u64) else { return Ok(None) };
    if !file_start.is_multiple_of(page as u64) {
        return Ok(None);
    }
    let target = &mut memory[pages.clone()];
    let start = target.as_mut_ptr().expose_provenance();
    let Some(watch) = Watch::new(&(start..start + target.len()))? else { return Ok(None) };
    // SAFETY: `target` is a whole number of pages within `memory`, exclusively borrowed, and by
    // the contract private pages of the engine's own mapping. Replacing them changes no more
    // than writing every byte of the slice would, which the exclusive borrow permits.
    unsafe {
        mmap(
            target.as_mut_ptr().cast(),
            target.len(),
            ProtFlags::READ | ProtFlags::WRITE,
            MapFlags::PRIVATE | MapFlags::FIXED,
            file,
            file_start,
        )?;
    }
    memory[pages.start..range.start].fill(0);
    memory[range.end..pages.end].fill(0);
    Ok(Some(watch))
}

/// Replaces the pages that `range` touches by fresh zeros, giving their memory back.
///
/// # Errors
///
/// What the operating system says. `memory` is then unchanged.
///
/// # Safety
///
/// As for [`map_file`], but for the file.
#[cfg(unix)]
pub(crate) unsafe fn discard(memory: &mut [u8], range: Range<usize>) -> io::Result<()> {
    use rustix::mm::{MapFlags, ProtFlags, mmap_anonymous};

    let Some(pages) = whole_pages(memory, &range, rustix::param::page_size()) else {
        memory[range].fill(0);
        return Ok(());
    };
    let target = &mut memory[pages];
    // SAFETY: as in `map_file`; anonymous pages need nothing else.
    unsafe {
        mmap_anonymous(
            target.as_mut_ptr().cast(),
            target.len(),
            ProtFlags::READ | ProtFlags::WRITE,
            MapFlags::PRIVATE | MapFlags::FIXED,
        )?;
    }
    Ok(())
}

/// Where pages cannot be mapped, layers are copied.
///
/// # Safety
///
/// None is needed; it is unsafe to have the signature of the other one.
#[cfg(not(unix))]
pub(crate) unsafe fn map_file(
    _memory: &mut [u8],
    _range: Range<usize>,
    _file: &File,
    _offset: u64,
) -> io::Result<Option<Watch>> {
    Ok(None)
}

/// Zeros the range.
///
/// # Safety
///
/// None is needed; it is unsafe to have the signature of the other one.
#[cfg(not(unix))]
pub(crate) unsafe fn discard(memory: &mut [u8], range: Range<usize>) -> io::Result<()> {
    memory[range].fill(0);
    Ok(())
}

/// The pages that `range` touches, if `memory` begins at a page and holds them whole.
#[cfg(unix)]
fn whole_pages(memory: &[u8], range: &Range<usize>, page: usize) -> Option<Range<usize>> {
    if !memory.as_ptr().addr().is_multiple_of(page) || range.is_empty() {
        return None;
    }
    let start = range.start - range.start % page;
    let end = range.end.checked_next_multiple_of(page)?;
    (end <= memory.len()).then_some(start..end)
}

/// Where a lost page cannot be replaced, nothing is noticed.
#[cfg(not(target_os = "linux"))]
mod lost {
    use std::io;
    use std::ops::Range;

    /// Notices nothing.
    #[derive(Debug)]
    pub(crate) struct Watch;

    impl Watch {
        pub(crate) fn new(_: &Range<usize>) -> io::Result<Option<Self>> {
            Ok(Some(Self))
        }

        pub(crate) fn is_lost(&self) -> bool {
            false
        }
    }

    pub(crate) fn keep_handler() -> io::Result<()> {
        Ok(())
    }
}

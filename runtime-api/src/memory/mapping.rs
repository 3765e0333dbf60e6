//! Replacing whole pages of a guest's memory: by file pages, or by fresh zeros.
//!
//! The rules (see ARCHITECTURE.md, "Mapping"): the target is a range that the guest's
//! allocator does not own; file pages are private and writable, never read-only, because an
//! engine may write to guest memory from its own code; and what is taken away is replaced by
//! anonymous pages, never left as a hole.
#![allow(unsafe_code)]

#[cfg(target_os = "linux")]
mod budget;
#[cfg(target_os = "linux")]
mod lost;
mod pages;

use std::fs::File;
use std::io;
use std::ops::Range;

use crate::memory::image::Image;

pub(crate) use budget::ImageMapping;
pub(crate) use lost::{Watch, keep_handler};
pub(crate) use pages::HostPages;
pub use pages::WholePages;

/// Makes `range` of a memory show the bytes of `file` from `offset` on, and zeros in what
/// remains of its first and last page, just as copying into fresh memory would leave it.
///
/// Pages that the file loses later become zeros, which the result remembers; it must live as
/// long as the mapping. Returns none, having done nothing, if `range` and `offset` do not lie
/// alike within a page of this machine, or if there are too many mappings to look after.
///
/// # Errors
///
/// What the operating system says. `range` is then zeros, or as it was.
///
/// # Safety
///
/// The file must contain the whole range, and stay unchanged for as long as the mapping does: the
/// contract of [`Source::open_mapped`](crate::Source::open_mapped).
#[cfg(unix)]
pub(crate) unsafe fn map_file(
    mut memory: WholePages<'_>,
    range: Range<usize>,
    file: &File,
    offset: u64,
) -> io::Result<Option<Watch>> {
    let Some(pages) = pages::touched(memory.bytes(), &range) else { return Ok(None) };
    let delta = range.start - pages.start;
    let Some(file_start) = offset.checked_sub(delta as u64) else { return Ok(None) };
    if !file_start.is_multiple_of(rustix::param::page_size() as u64) {
        return Ok(None);
    }
    let target = memory.bytes_mut()[pages.clone()].as_mut_ptr_range();
    let (start, end) = (target.start.expose_provenance(), target.end.addr());
    let Some(watch) = Watch::new(&(start..end))? else { return Ok(None) };
    // SAFETY: the caller's promise.
    unsafe { map_pages(&mut memory, pages.clone(), file, file_start)? };
    memory.bytes_mut()[pages.start..range.start].fill(0);
    memory.bytes_mut()[range.end..pages.end].fill(0);
    Ok(Some(watch))
}

/// Makes whole pages of a memory show those of an image, until they are written to.
///
/// # Errors
///
/// What the operating system says. The pages are then zeros, or as they were.
#[cfg(unix)]
pub(crate) fn map_image(
    mut memory: WholePages<'_>,
    pages: Range<usize>,
    image: &Image,
    offset: u64,
) -> io::Result<()> {
    // SAFETY: an image is sealed: its file has the range, which the caller has checked, and stays as it is.
    unsafe { map_pages(&mut memory, pages, image.file(), offset) }
}

/// The pages of a memory that lie whole in a range, if those of an image can be mapped there: `offset` is where the
/// range begins in it.
#[cfg(unix)]
pub(crate) fn image_pages(
    memory: &WholePages<'_>,
    range: &Range<usize>,
    offset: u64,
) -> Option<Range<usize>> {
    let page = rustix::param::page_size();
    let alike = range.start as u64 % page as u64 == offset % page as u64;
    pages::inside(memory.bytes(), range).filter(|_| alike)
}

/// A range, and what else the machine's pages have that it touches.
pub(crate) fn touched_pages(range: &Range<usize>) -> Range<usize> {
    let page = pages::size();
    let end = range.end.checked_next_multiple_of(page).unwrap_or(range.end);
    range.start - range.start % page..end
}

/// Makes whole pages zero that showed an image.
///
/// # Errors
///
/// What the operating system says. They are then as they were.
#[cfg(unix)]
pub(crate) fn unmap_image(mut memory: WholePages<'_>, pages: Range<usize>) -> io::Result<()> {
    match map_zeros(&mut memory, pages.clone()) {
        Err(error) if !fill_hole(&mut memory, pages) => Err(error),
        _ => Ok(()),
    }
}

/// Maps pages of a file over whole pages of a memory.
///
/// # Errors
///
/// What the operating system says. They are then zeros, or as they were.
///
/// # Safety
///
/// That of [`map_file`].
#[cfg(unix)]
unsafe fn map_pages(
    memory: &mut WholePages<'_>,
    pages: Range<usize>,
    file: &File,
    offset: u64,
) -> io::Result<()> {
    use rustix::mm::{MapFlags, ProtFlags, mmap};

    let target = &mut memory.bytes_mut()[pages.clone()];
    touch(target);
    // SAFETY: `target` is a whole number of pages of a `WholePages`, exclusively borrowed, so
    // private pages of the engine's own mapping. Replacing them changes no more than writing
    // every byte of the slice would, which the exclusive borrow permits.
    let mapped = unsafe {
        mmap(
            target.as_mut_ptr().cast(),
            target.len(),
            ProtFlags::READ | ProtFlags::WRITE,
            MapFlags::PRIVATE | MapFlags::FIXED,
            file,
            offset,
        )
    };
    if let Err(error) = mapped {
        fill_hole(memory, pages);
        return Err(error.into());
    }
    Ok(())
}

/// Writes to a mapping before it is divided. Linux joins its parts again only if they share what
/// it keeps for pages that were written to, which they do if it was there before.
#[cfg(unix)]
fn touch(target: &mut [u8]) {
    if let Some(first) = target.first_mut() {
        let first = std::ptr::from_mut(first);
        // SAFETY: a pointer that was a reference a moment ago. Volatile, as the optimizer would
        // see that nothing changes.
        let byte = unsafe { first.read_volatile() };
        // SAFETY: as above.
        unsafe { first.write_volatile(byte) };
    }
}

/// Puts anonymous pages where mapping others has failed: Linux may have unmapped what was there
/// before. Returns whether there are zeros now; if not, what was there before still is. Ends the
/// process if neither is so, since whatever is mapped next in the hole would be taken for the
/// guest's memory.
#[cfg(unix)]
fn fill_hole(memory: &mut WholePages<'_>, pages: Range<usize>) -> bool {
    let Err(error) = map_zeros(memory, pages.clone()) else { return true };
    if is_mapped(&memory.bytes()[pages.clone()]) {
        return false;
    }
    tracing::error!(
        bytes = pages.len(),
        %error,
        "pages of a guest's memory are gone and cannot be mapped anew; ending the process"
    );
    std::process::abort();
}

/// Whether there are pages at every address of a range.
#[cfg(target_os = "linux")]
fn is_mapped(range: &[u8]) -> bool {
    // Nothing is allocated, as there may be no memory.
    let mut residency = [0_u8; 256];
    range.chunks(residency.len() * rustix::param::page_size()).all(|part| {
        let start = part.as_ptr().cast_mut().cast();
        // SAFETY: asks about addresses, touches none of them, and there is a byte for each page.
        unsafe { libc::mincore(start, part.len(), residency.as_mut_ptr()) == 0 }
    })
}

/// Other systems unmap nothing before they know that they can map.
#[cfg(all(unix, not(target_os = "linux")))]
fn is_mapped(_: &[u8]) -> bool {
    true
}

/// Maps anonymous pages of zeros over whole pages.
#[cfg(unix)]
fn map_zeros(memory: &mut WholePages<'_>, pages: Range<usize>) -> io::Result<()> {
    use rustix::mm::{MapFlags, ProtFlags, mmap_anonymous};

    let mut flags = MapFlags::PRIVATE | MapFlags::FIXED;
    // Only mappings with the same flags are joined.
    flags.set(MapFlags::NORESERVE, memory.is_no_reserve());
    let target = &mut memory.bytes_mut()[pages];
    // SAFETY: as in `map_pages`; anonymous pages need nothing else.
    unsafe {
        mmap_anonymous(
            target.as_mut_ptr().cast(),
            target.len(),
            ProtFlags::READ | ProtFlags::WRITE,
            flags,
        )?;
    }
    Ok(())
}

/// Takes a mapped file away: its pages become anonymous zeros. `range` touches the same pages
/// as when the file was mapped.
///
/// # Errors
///
/// What the operating system says. The file is then still mapped.
#[cfg(unix)]
pub(crate) fn unmap_file(memory: WholePages<'_>, range: &Range<usize>) -> io::Result<()> {
    let Some(pages) = pages::touched(memory.bytes(), range) else {
        return Err(io::Error::other("the layer does not lie in whole pages any more"));
    };
    unmap_image(memory, pages)
}

/// Makes anonymous bytes zero, and gives back the pages that lie in `range` whole.
pub(crate) fn discard(mut memory: WholePages<'_>, range: Range<usize>) {
    #[cfg(unix)]
    if let Some(pages) = pages::inside(memory.bytes(), &range)
        && trim(&mut memory, pages.clone()).is_ok()
    {
        make_zero(&mut memory.bytes_mut()[range.start..pages.start]);
        make_zero(&mut memory.bytes_mut()[pages.end..range.end]);
        return;
    }
    make_zero(&mut memory.bytes_mut()[range]);
}

/// Makes bytes zero, but uses no pages for those that are.
pub(crate) fn make_zero(bytes: &mut [u8]) {
    if bytes.iter().any(|byte| *byte != 0) {
        bytes.fill(0);
    }
}

/// Gives anonymous pages back, which read as zeros from then on. Divides no mapping.
#[cfg(target_os = "linux")]
fn trim(memory: &mut WholePages<'_>, pages: Range<usize>) -> io::Result<()> {
    use rustix::mm::{Advice, madvise};

    let target = &mut memory.bytes_mut()[pages];
    // SAFETY: as in `map_pages`: it changes the bytes of private pages that are exclusively
    // borrowed, and no more.
    unsafe { madvise(target.as_mut_ptr().cast(), target.len(), Advice::LinuxDontNeed)? };
    Ok(())
}

/// Elsewhere advice does not make zeros.
#[cfg(all(unix, not(target_os = "linux")))]
fn trim(memory: &mut WholePages<'_>, pages: Range<usize>) -> io::Result<()> {
    map_zeros(memory, pages)
}

/// Asks for huge pages for those that lie in `range` whole, before they are written to. Whether there
/// are any is the system's matter: no byte changes, nothing fails, and the mapping is divided at most
/// at both ends.
#[cfg(target_os = "linux")]
pub(crate) fn want_huge_pages(mut memory: WholePages<'_>, range: &Range<usize>) {
    use rustix::mm::{Advice, madvise};

    let Some(pages) = pages::huge(memory.bytes(), range) else { return };
    let target = &mut memory.bytes_mut()[pages];
    let (start, bytes) = (target.as_mut_ptr().cast(), target.len());
    // SAFETY: it is about private pages that are exclusively borrowed, and changes none of their bytes.
    match unsafe { madvise(start, bytes, Advice::LinuxHugepage) } {
        Ok(()) => tracing::debug!(bytes, "asked for huge pages"),
        Err(error) => tracing::debug!(bytes, %error, "the system has no huge pages"),
    }
}

/// Elsewhere there is nothing to ask for.
#[cfg(not(target_os = "linux"))]
pub(crate) fn want_huge_pages(_: WholePages<'_>, _: &Range<usize>) {}

/// Where pages cannot be mapped, layers are copied.
///
/// # Safety
///
/// None is needed; it is unsafe to have the signature of the other one.
#[cfg(not(unix))]
pub(crate) unsafe fn map_file(
    _memory: WholePages<'_>,
    _range: Range<usize>,
    _file: &File,
    _offset: u64,
) -> io::Result<Option<Watch>> {
    Ok(None)
}

/// Where pages cannot be mapped, images are copied.
#[cfg(not(unix))]
pub(crate) fn image_pages(_: &WholePages<'_>, _: &Range<usize>, _: u64) -> Option<Range<usize>> {
    None
}

/// Never called, as there are no pages for it.
#[cfg(not(unix))]
pub(crate) fn map_image(_: WholePages<'_>, _: Range<usize>, _: &Image, _: u64) -> io::Result<()> {
    Err(io::ErrorKind::Unsupported.into())
}

/// Never called, as nothing is mapped.
#[cfg(not(unix))]
pub(crate) fn unmap_image(_: WholePages<'_>, _: Range<usize>) -> io::Result<()> {
    Err(io::ErrorKind::Unsupported.into())
}

/// Never called, as nothing is mapped.
#[cfg(not(unix))]
pub(crate) fn unmap_file(mut memory: WholePages<'_>, range: &Range<usize>) -> io::Result<()> {
    memory.bytes_mut()[range.clone()].fill(0);
    Ok(())
}

/// Elsewhere there are no images, nor mappings of them.
#[cfg(not(target_os = "linux"))]
mod budget {
    /// None.
    #[derive(Debug)]
    pub(crate) struct ImageMapping;

    impl ImageMapping {
        pub(crate) const fn take() -> Option<Self> {
            None
        }
    }
}

/// Where a lost page cannot be replaced, nothing is noticed.
#[cfg(not(target_os = "linux"))]
mod lost {
    use std::io;
    #[cfg(unix)]
    use std::ops::Range;

    /// Notices nothing.
    #[derive(Debug)]
    pub(crate) struct Watch;

    impl Watch {
        #[cfg(unix)]
        pub(crate) fn new(_: &Range<usize>) -> io::Result<Option<Self>> {
            Ok(Some(Self))
        }

        pub(crate) fn is_lost(&self) -> bool {
            false
        }

        pub(crate) fn is_at(&self, _: &[u8]) -> bool {
            true
        }
    }

    pub(crate) fn keep_handler() -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
#[cfg(target_os = "linux")]
mod tests {
    use std::io::Write as _;

    use super::*;

    const PAGE: usize = 65_536;

    #[test]
    fn a_hole_is_filled_and_what_is_there_stays() {
        let mut host = HostPages::new(4 * PAGE).unwrap();
        host.bytes_mut().fill(7);
        let hole = host.bytes_mut()[PAGE..2 * PAGE].as_mut_ptr();
        // SAFETY: pages of `host` alone, which are mapped again before anybody looks at them.
        unsafe { rustix::mm::munmap(hole.cast(), PAGE).unwrap() };
        assert!(!is_mapped(&host.bytes()[..4 * PAGE]));
        assert!(fill_hole(&mut host.whole(), PAGE..2 * PAGE));
        assert!(is_mapped(host.bytes()));
        let expected = |index| if (PAGE..2 * PAGE).contains(&index) { 0 } else { 7 };
        assert!(host.bytes().iter().enumerate().all(|(index, byte)| *byte == expected(index)));
    }

    /// A file that cannot be mapped leaves pages that can be used.
    #[test]
    fn what_cannot_be_mapped_leaves_no_hole() {
        let mut host = HostPages::new(4 * PAGE).unwrap();
        host.bytes_mut().fill(7);
        // Files of /proc have no pages.
        let file = File::open("/proc/self/status").unwrap();
        // SAFETY: it is not mapped.
        let mapped = unsafe { map_file(host.whole(), PAGE..2 * PAGE, &file, 0) };
        mapped.map(|_| ()).unwrap_err();
        assert!(host.bytes()[..PAGE].iter().all(|byte| *byte == 7));
        host.bytes_mut().fill(8);
        assert!(host.bytes().iter().all(|byte| *byte == 8));
    }

    /// Asking for huge pages is about whole ones within the range, and changes no byte.
    #[test]
    fn huge_pages_are_asked_for_within_a_range() {
        const HUGE: usize = 2 << 20;
        let mut host = HostPages::new(8 * HUGE).unwrap();
        host.bytes_mut().fill(7);
        // Too small for one; and beyond the first, which may begin within a huge page.
        want_huge_pages(host.whole(), &(PAGE..HUGE));
        assert_eq!(flagged(host.bytes()), 0);
        want_huge_pages(host.whole(), &(HUGE..6 * HUGE));
        let asked = flagged(host.bytes());
        let possible = std::path::Path::new("/sys/kernel/mm/transparent_hugepage").exists();
        assert!(!possible || asked == 5 * HUGE || asked == 4 * HUGE, "{asked}");
        assert!(host.bytes().iter().all(|byte| *byte == 7));
        discard(host.whole(), 2 * HUGE + PAGE..5 * HUGE);
        let kept = |at: usize| !(2 * HUGE + PAGE..5 * HUGE).contains(&at);
        assert!(host.bytes().iter().enumerate().all(|(at, byte)| *byte == 7 * u8::from(kept(at))));
    }

    /// Bytes of a range in mappings for which huge pages were asked.
    fn flagged(range: &[u8]) -> usize {
        let range = range.as_ptr_range();
        let address = |text: &str| usize::from_str_radix(text, 16).ok();
        let (mut common, mut sum) = (0, 0);
        for line in std::fs::read_to_string("/proc/self/smaps").unwrap().lines() {
            let first = line.split(' ').next().unwrap();
            if let Some((Some(start), Some(end))) =
                first.split_once('-').map(|(start, end)| (address(start), address(end)))
            {
                let (start, end) = (start.max(range.start.addr()), end.min(range.end.addr()));
                common = end.saturating_sub(start);
            } else if first == "VmFlags:" && line.split(' ').any(|flag| flag == "hg") {
                sum += common;
            }
        }
        sum
    }

    /// Ten thousand places that were mapped or written to, and given back, take no mappings.
    #[test]
    fn what_is_given_back_is_joined_again() {
        const PLACES: usize = 2_000;
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(&[7; PAGE]).unwrap();
        let mut host = HostPages::new(2 * PLACES * PAGE).unwrap();
        let before = count(host.bytes());
        let mut watches = Vec::new();
        for place in 0..PLACES {
            let range = 2 * place * PAGE..2 * place * PAGE + 100;
            // SAFETY: no other process knows the file.
            let watch = unsafe { map_file(host.whole(), range.clone(), &file, 0) };
            watches.push(watch.unwrap().unwrap());
            assert_eq!(host.bytes()[range.start], 7);
            // Both sides are written to while they are apart.
            host.bytes_mut()[range.start + PAGE] = 1;
        }
        assert!(count(host.bytes()) >= 2 * PLACES);
        for place in 0..PLACES {
            unmap_file(host.whole(), &(2 * place * PAGE..2 * place * PAGE + 100)).unwrap();
        }
        drop(watches);
        for place in 0..PLACES {
            let start = (2 * place + 1) * PAGE;
            assert_eq!((host.bytes()[start - PAGE], host.bytes()[start]), (0, 1));
            discard(host.whole(), start..start + PAGE);
            assert_eq!(host.bytes()[start], 0);
        }
        let after = count(host.bytes());
        assert!(after <= before + 1, "{before} mappings before, {after} after");
    }

    /// Mappings that a range is divided into.
    fn count(range: &[u8]) -> usize {
        let range = range.as_ptr_range();
        let address = |text: &str| usize::from_str_radix(text, 16).unwrap();
        let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
        let ranges = maps.lines().filter_map(|line| line.split_once(' ')?.0.split_once('-'));
        ranges
            .map(|(start, end)| (address(start), address(end)))
            .filter(|(start, end)| *start < range.end.addr() && range.start.addr() < *end)
            .count()
    }
}

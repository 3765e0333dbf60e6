//! Bytes of which the pages may be replaced, and the claim that they may.

#[cfg(unix)]
use std::ops::Range;
use std::ptr::NonNull;

use memmap2::{MmapMut, MmapOptions};

/// The bytes of one linear memory, as whole pages that the host may replace.
///
/// The claim is about exactly these bytes and cannot be applied to others: a backend makes it
/// anew each time that its instance lends the bytes of a memory
/// ([`LinearMemories::whole_pages`](crate::LinearMemories::whole_pages)). Only the host itself
/// can replace pages with it, and only for the guest that lent them.
///
/// ```
/// use polychord_runtime_api::spi::WholePages;
///
/// /// A linear memory that the engine has mapped: at one address, for one instance.
/// struct Mapped(*mut u8, usize);
///
/// impl Mapped {
///     fn whole_pages(&mut self) -> WholePages<'_> {
///         // SAFETY: the engine mapped the bytes for this memory alone, and never moves them.
///         unsafe { WholePages::new(std::slice::from_raw_parts_mut(self.0, self.1)) }
///     }
/// }
/// ```
///
/// Safe code cannot make the claim:
///
/// ```compile_fail,E0133
/// let mut heap = vec![0_u8; 1 << 20];
/// let pages = polychord_runtime_api::spi::WholePages::new(&mut heap);
/// ```
///
/// Nor can it take the claim of one memory for another, as the bytes are private:
///
/// ```compile_fail,E0451
/// fn steal<'a>(claim: polychord_runtime_api::spi::WholePages<'_>, heap: &'a mut [u8])
///     -> polychord_runtime_api::spi::WholePages<'a>
/// {
///     polychord_runtime_api::spi::WholePages { bytes: heap, ..claim }
/// }
/// ```
///
/// Nor lend it twice:
///
/// ```compile_fail,E0599
/// fn twice(claim: polychord_runtime_api::spi::WholePages<'_>) {
///     let other = claim.clone();
/// }
/// ```
#[derive(Debug)]
pub struct WholePages<'a> {
    bytes: &'a mut [u8],
    no_reserve: bool,
}

impl<'a> WholePages<'a> {
    /// Claims that the pages of `bytes` may be replaced.
    ///
    /// # Safety
    ///
    /// All of this must hold of `bytes`, for every index of a memory that the instance lends so:
    ///
    /// - They are one linear memory of the instance that lends them, from its first byte on.
    ///   The engine mapped them itself, for this memory alone, as private pages of which no other
    ///   mapping shows any, and they are readable and writable. Those behind the size that the
    ///   memory had at its start are anonymous.
    /// - While the instance lives they stay: growth does not move them and leaves them as they
    ///   are, and none of them is unmapped, protected or mapped anew. They are unmapped as a
    ///   whole, when the instance is dropped and not before.
    /// - While no code of the guest runs, only the borrower of the instance has
    ///   references to these bytes, or reads or writes them.
    #[allow(unsafe_code, reason = "the contract is the backend's")]
    #[must_use]
    pub const unsafe fn new(bytes: &'a mut [u8]) -> Self {
        Self { bytes, no_reserve: false }
    }

    /// Says that the engine mapped them with `MAP_NORESERVE`: what replaces them is mapped
    /// likewise, so that the system can join it with its neighbors to one mapping.
    #[must_use]
    pub const fn no_reserve(self) -> Self {
        Self { no_reserve: true, ..self }
    }

    /// The bytes.
    pub(crate) const fn bytes(&self) -> &[u8] {
        self.bytes
    }

    /// The bytes, mutably.
    pub(crate) const fn bytes_mut(&mut self) -> &mut [u8] {
        self.bytes
    }

    /// Whether `MAP_NORESERVE` belongs to them.
    #[cfg(unix)]
    pub(crate) const fn is_no_reserve(&self) -> bool {
        self.no_reserve
    }

    /// The address of the first byte, which is the same for as long as the instance lives.
    #[allow(dead_code, reason = "for words of a guest's memory that the host writes in a call")]
    pub(crate) const fn base(&mut self) -> NonNull<u8> {
        NonNull::from_mut(self.bytes).cast()
    }

    /// Lends the pages on, for a shorter time.
    pub(crate) const fn reborrow(&mut self) -> WholePages<'_> {
        WholePages { bytes: self.bytes, no_reserve: self.no_reserve }
    }
}

/// Anonymous pages of the host, of which none is in use before it is written to.
#[derive(Debug)]
pub(crate) struct HostPages(MmapMut);

impl HostPages {
    /// Reserves address space for `len` bytes.
    ///
    /// # Errors
    ///
    /// What the operating system says.
    pub(crate) fn new(len: usize) -> std::io::Result<Self> {
        MmapOptions::new().len(len).no_reserve_swap().map_anon().map(Self)
    }

    /// The bytes.
    pub(crate) fn bytes(&self) -> &[u8] {
        &self.0
    }

    /// The bytes, mutably.
    pub(crate) fn bytes_mut(&mut self) -> &mut [u8] {
        &mut self.0
    }

    /// The bytes as pages that may be replaced.
    pub(crate) fn whole(&mut self) -> WholePages<'_> {
        // SAFETY: `new` mapped them for `self` alone, private, anonymous, readable and writable.
        // They never grow, nothing here unmaps them but the drop of `self`, and they are
        // reached through `self` alone, which is borrowed.
        unsafe { WholePages::new(&mut self.0) }.no_reserve()
    }
}

/// Bytes of a page of this machine.
#[cfg(unix)]
pub(super) fn size() -> usize {
    rustix::param::page_size()
}

/// Bytes that pages can be taken to have where none is replaced.
#[cfg(not(unix))]
pub(super) const fn size() -> usize {
    65_536
}

/// The machine's pages that `range` touches, if the memory begins at a page and holds them whole.
#[cfg(unix)]
pub(super) fn touched(memory: &[u8], range: &Range<usize>) -> Option<Range<usize>> {
    let page = rustix::param::page_size();
    if !memory.as_ptr().addr().is_multiple_of(page) || range.is_empty() {
        return None;
    }
    let start = range.start - range.start % page;
    let end = range.end.checked_next_multiple_of(page)?;
    (end <= memory.len()).then_some(start..end)
}

/// The machine's pages that lie in `range` whole, if the memory begins at a page.
#[cfg(unix)]
pub(super) fn inside(memory: &[u8], range: &Range<usize>) -> Option<Range<usize>> {
    let page = rustix::param::page_size();
    if !memory.as_ptr().addr().is_multiple_of(page) {
        return None;
    }
    let start = range.start.checked_next_multiple_of(page)?;
    let end = range.end.min(memory.len());
    let end = end - end % page;
    (start < end).then_some(start..end)
}

/// Bytes of a huge page, where the machine's pages have 4 KiB; a multiple of those of other machines.
#[cfg(target_os = "linux")]
const HUGE: usize = 2 << 20;

/// The huge pages that lie in `range` whole, by the addresses of this process.
#[cfg(target_os = "linux")]
pub(super) fn huge(memory: &[u8], range: &Range<usize>) -> Option<Range<usize>> {
    let pages = inside(memory, range)?;
    let base = memory.as_ptr().addr();
    let start = (base + pages.start).checked_next_multiple_of(HUGE)? - base;
    let end = (base + pages.end) / HUGE * HUGE;
    let end = end.checked_sub(base)?;
    (start < end).then_some(start..end)
}

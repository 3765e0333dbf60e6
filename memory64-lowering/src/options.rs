//! How to lower.

use crate::format::PAGE;
use crate::{Error, Result};

/// How modules are lowered.
///
/// ```
/// use polychord_memory64_lowering::Options;
///
/// let options = Options::default().max_memory(64 << 30).segment_pages(32_768);
/// assert_eq!(options.max_memory, 64 << 30);
/// ```
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Options {
    /// Largest size in bytes that a 64-bit memory can have, a multiple of 64 KiB; 16 GiB by default.
    /// A memory without a maximum of its own gets this one.
    pub max_memory: u64,
    /// Whether a memory that declares a larger maximum gets this one; by default it is an error.
    pub cut_maximum: bool,
    /// Pages of 64 KiB in a segment, a power of two; 65,536 by default, which is 4 GiB.
    pub segment_pages: u32,
    /// Memories that the engine allows in a module: 100 by default, and never more.
    pub max_memories: u32,
    /// Whether the host can limit memories further before the module runs: it then exports a global for
    /// each divided memory, its [`limit_name`](crate::limit_name), with the most pages that it may
    /// grow to. Off by default.
    pub limits: bool,
    /// How loads and stores find their segment.
    pub dispatch: Dispatch,
}

/// How loads and stores find their segment; the results are the same.
///
/// ```
/// use polychord_memory64_lowering::{Dispatch, Options};
///
/// assert_eq!(Options::default().dispatch, Dispatch::Regions);
/// let small = Options::default().dispatch(Dispatch::Helpers);
/// # assert_eq!(small.dispatch, Dispatch::Helpers);
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Dispatch {
    /// Accesses that follow each other without a branch, and those of a loop, are checked together, and
    /// what is read far away is loaded ahead; others as by [`Inline`](Self::Inline).
    #[default]
    Regions,
    /// A comparison before each access; a function is called if it is not in the first segment.
    Inline,
    /// A comparison for each of the first eight segments before each access, else as by
    /// [`Inline`](Self::Inline).
    Switch,
    /// A function is called for each access: the smallest code.
    Helpers,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            max_memory: 16 << 30,
            cut_maximum: false,
            segment_pages: 1 << 16,
            max_memories: 100,
            limits: false,
            dispatch: Dispatch::default(),
        }
    }
}

impl Options {
    /// Sets the largest size of a memory, in bytes.
    #[must_use]
    pub const fn max_memory(mut self, bytes: u64) -> Self {
        self.max_memory = bytes;
        self
    }

    /// Sets whether larger maximums are cut.
    #[must_use]
    pub const fn cut_maximum(mut self, cut: bool) -> Self {
        self.cut_maximum = cut;
        self
    }

    /// Sets the size of a segment, in pages of 64 KiB.
    #[must_use]
    pub const fn segment_pages(mut self, pages: u32) -> Self {
        self.segment_pages = pages;
        self
    }

    /// Sets how many memories the engine allows in a module.
    #[must_use]
    pub const fn max_memories(mut self, memories: u32) -> Self {
        self.max_memories = memories;
        self
    }

    /// Sets whether the host can limit memories further.
    #[must_use]
    pub const fn limits(mut self, limits: bool) -> Self {
        self.limits = limits;
        self
    }

    /// Sets how loads and stores find their segment.
    #[must_use]
    pub const fn dispatch(mut self, dispatch: Dispatch) -> Self {
        self.dispatch = dispatch;
        self
    }

    /// Bytes of a segment.
    pub(crate) const fn segment_bytes(&self) -> u64 {
        self.segment_pages as u64 * PAGE
    }

    pub(crate) fn check(&self) -> Result<()> {
        let refused = |name, value, wanted| Err(Error::Options { name, value, wanted });
        let wanted = "a power of two from 1 to 65,536 pages";
        if !self.segment_pages.is_power_of_two() || self.segment_pages > 1 << 16 {
            return refused("segment_pages", self.segment_pages.into(), wanted);
        }
        // Beyond are no addresses that code could count in an `i64`.
        let wanted = "a multiple of 65,536 bytes, from 65,536 to 2^62";
        if self.max_memory == 0
            || !self.max_memory.is_multiple_of(PAGE)
            || self.max_memory > 1 << 62
        {
            return refused("max_memory", self.max_memory, wanted);
        }
        Ok(())
    }
}

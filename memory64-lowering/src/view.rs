//! How the memories of a module are laid out in the rewritten one.

use wasm_encoder::MemoryType;

use crate::error::BEGINS;
use crate::format::{PAGE, segment_name};
use crate::shape::{Memory, Shape};
use crate::{Error, Options, Result};

/// Memories that a module can have at all, which keeps the code for each of them small.
const MOST: u32 = 100;

/// A memory as code sees it: one memory, or segments that follow each other.
#[derive(Clone, Debug)]
pub(crate) struct View {
    /// Index of the memory, or of its first segment.
    pub(crate) base: u32,
    /// How many segments addresses can reach.
    pub(crate) reach: u32,
    /// How many segments are declared, which is more where others have to agree on it.
    pub(crate) declared: u32,
    /// Bits of an address within a segment.
    pub(crate) shift: u32,
    /// Exponent of the size of a page.
    pub(crate) page: u32,
    /// Whether addresses have 64 bits, so that the memory was divided.
    pub(crate) wide: bool,
    /// The most pages that it can have.
    pub(crate) cap: u64,
    /// The global with a lower bound of the size in bytes; a memory never shrinks.
    pub(crate) limit: u32,
    /// The global with the most pages that the host lets it have, if there is one.
    pub(crate) most: Option<u32>,
    minimum: u64,
    maximum: Option<u64>,
}

/// The memories of a module, by their indices before.
#[derive(Debug)]
pub(crate) struct Views {
    list: Vec<View>,
    /// Globals that are added, one or two for each divided memory.
    pub(crate) globals: u32,
    /// Memories after lowering.
    pub(crate) total: u32,
}

impl Views {
    pub(crate) fn of(shape: &Shape, options: &Options) -> Result<Self> {
        let mut views = Self { list: Vec::new(), globals: 0, total: 0 };
        let mut needed = 0_u64;
        for (index, memory) in (0..).zip(&shape.memories) {
            let mut view = View::of(index, memory, options)?;
            view.base = u32::try_from(needed).unwrap_or(u32::MAX);
            needed += u64::from(view.declared);
            if view.wide {
                view.limit = shape.globals + views.globals;
                views.globals += 1;
                if options.limits {
                    view.most = Some(shape.globals + views.globals);
                    views.globals += 1;
                }
            }
            views.list.push(view);
        }
        let available = options.max_memories.min(MOST);
        if needed > available.into() {
            return Err(Error::Memories {
                needed,
                available,
                segment_bytes: options.segment_bytes(),
            });
        }
        views.total = u32::try_from(needed).unwrap_or(u32::MAX);
        Ok(views)
    }

    pub(crate) fn get(&self, memory: u32) -> Option<&View> {
        self.list.get(memory as usize)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &View> {
        self.list.iter()
    }

    /// The divided memory with this index, if it is one.
    pub(crate) fn wide(&self, memory: u32) -> Option<&View> {
        self.get(memory).filter(|view| view.wide)
    }
}

impl View {
    fn of(index: u32, memory: &Memory, options: &Options) -> Result<Self> {
        let ty = &memory.ty;
        if !ty.memory64 {
            return Ok(Self {
                base: 0,
                reach: 1,
                declared: 1,
                shift: 32,
                page: ty.page_size_log2.unwrap_or(16),
                wide: false,
                cap: 1 << 16,
                limit: 0,
                most: None,
                minimum: ty.initial,
                maximum: ty.maximum,
            });
        }
        if ty.shared {
            return Err(Error::Unsupported { what: format!("a shared 64-bit memory ({index})") });
        }
        if ty.page_size_log2.is_some() {
            let what = format!("a page size of its own for a 64-bit memory ({index})");
            return Err(Error::Unsupported { what });
        }
        let most = options.max_memory / PAGE;
        let declared = ty.maximum.filter(|_| !options.cut_maximum).unwrap_or(0).max(ty.initial);
        if declared > most {
            let (declares, pages) = match ty.initial > most {
                true => (BEGINS, ty.initial),
                false => ("may grow to", declared),
            };
            let bytes = u128::from(pages) * u128::from(PAGE);
            return Err(Error::Maximum {
                memory: index,
                declares,
                bytes,
                most: options.max_memory,
            });
        }
        let cap = ty.maximum.unwrap_or(most).min(most);
        let shared = memory.import.is_some() || !memory.exports.is_empty();
        let segments = |pages: u64| pages.div_ceil(options.segment_pages.into()).max(1);
        let count = |pages| u32::try_from(segments(pages)).unwrap_or(u32::MAX);
        Ok(Self {
            base: 0,
            reach: count(cap),
            declared: count(if shared { most } else { cap }),
            shift: options.segment_bytes().trailing_zeros(),
            page: 16,
            wide: true,
            cap,
            limit: 0,
            most: None,
            minimum: ty.initial,
            maximum: match ty.maximum {
                // The module that exports it may have more; growing is bounded by `cap`.
                None if memory.import.is_some() => None,
                _ => Some(cap),
            },
        })
    }

    /// What is left of the low half of an address in a segment that is smaller than 4 GiB.
    pub(crate) const fn mask(&self) -> i32 {
        // A segment of 2 GiB leaves 31 bits.
        ((1_u32 << self.shift) - 1).cast_signed()
    }

    /// Bytes of a segment.
    pub(crate) const fn segment(&self) -> u64 {
        1 << self.shift
    }

    /// Pages of a segment.
    pub(crate) const fn segment_pages(&self) -> u64 {
        self.segment() / PAGE
    }

    /// What addresses have to be below so that an access that ends `end` bytes behind them is
    /// in the first segment. It is the same number for all but far offsets, so that compilers
    /// see that two checks are one.
    pub(crate) fn quick_below(&self, end: u128) -> Option<i64> {
        let segment = u128::from(self.segment());
        let near = PAGE.min(self.segment() / 2).into();
        let end = if end <= near { near } else { end };
        let below = (segment + 1).checked_sub(end)?;
        (below > 0).then(|| i64::try_from(below).ok()).flatten()
    }

    /// The type of a segment.
    pub(crate) fn segment_type(&self, segment: u32) -> MemoryType {
        let pages = self.segment_pages();
        let within = |size: u64| size.saturating_sub(u64::from(segment) * pages).min(pages);
        MemoryType {
            minimum: within(self.minimum),
            maximum: self.maximum.map(within),
            memory64: false,
            shared: false,
            page_size_log2: None,
        }
    }

    /// Whether a range is in the memory as soon as it exists.
    pub(crate) fn begins_with(&self, end: u128) -> bool {
        end <= u128::from(self.minimum) * u128::from(PAGE)
    }
}

/// Names of the segments of a memory, or what else has one of them.
pub(crate) fn names(name: &str, segments: u32) -> impl Iterator<Item = String> + '_ {
    (0..segments).map(move |segment| segment_name(name, segment))
}

//! Where a memory of any size is found in the linear memories of a guest.

use serde::Serialize;

use crate::memory::mapping::WholePages;
use crate::module::LinearMemory;
use crate::value::AddressType;

/// The linear memories that a guest exports, as they are at this moment.
///
/// The index of a memory is its place in [`ModuleInfo::memories`](crate::ModuleInfo::memories);
/// the one named `memory` has index 0.
///
/// ```
/// use polychord_runtime_api::LinearMemories;
///
/// struct Plain(Vec<Vec<u8>>);
///
/// impl LinearMemories for Plain {
///     fn linear_memory(&self, index: usize) -> &[u8] {
///         self.0.get(index).map_or(&[], Vec::as_slice)
///     }
///
///     fn linear_memory_mut(&mut self, index: usize) -> &mut [u8] {
///         self.0.get_mut(index).map_or(&mut [], Vec::as_mut_slice)
///     }
/// }
///
/// assert_eq!(Plain(vec![vec![7]]).linear_memory(0), [7]);
/// assert!(Plain(vec![]).linear_memory(0).is_empty());
/// ```
pub trait LinearMemories {
    /// The bytes of a memory; empty if there is none of this index.
    fn linear_memory(&self, index: usize) -> &[u8];

    /// The bytes of a memory, mutably; empty if there is none of this index.
    fn linear_memory_mut(&mut self, index: usize) -> &mut [u8];

    /// The bytes of a memory as pages that the host may replace; none, which is the default, if
    /// they are not. Asked of an [`Instance`](crate::spi::Instance) only, while its guest does not run.
    fn whole_pages(&mut self, index: usize) -> Option<WholePages<'_>> {
        _ = index;
        None
    }
}

impl<M: LinearMemories + ?Sized> LinearMemories for Box<M> {
    fn linear_memory(&self, index: usize) -> &[u8] {
        (**self).linear_memory(index)
    }

    fn linear_memory_mut(&mut self, index: usize) -> &mut [u8] {
        (**self).linear_memory_mut(index)
    }

    fn whole_pages(&mut self, index: usize) -> Option<WholePages<'_>> {
        (**self).whole_pages(index)
    }
}

/// How a memory made by `create_memory64` is backed. The engine and the guest decide, not the
/// caller, and the same guest gets the same on every engine that can run it, but for 64-bit
/// memories, which may be native or lowered.
///
/// ```
/// use polychord_runtime_api::Backing;
///
/// assert_eq!(Backing::Native64.to_string(), "native64");
/// println!("{}", Backing::Native64.reason());
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum Backing {
    /// Pages of the host.
    Host,
    /// A range of the only linear memory of a guest, which has 32-bit addresses.
    Linear32,
    /// Ranges of several 32-bit linear memories of a guest, each at most 4 GiB long.
    Segments,
    /// A range of a linear memory with 64-bit addresses.
    Native64,
    /// A range of a linear memory with 64-bit addresses, which is several 32-bit memories in the engine:
    /// the module was lowered.
    Flat64,
}

polychord_plan::named!(Backing, "backing of a memory", { Host = "host",
    Linear32 = "linear32",
    Segments = "segments",
    Native64 = "native64",
    Flat64 = "flat64" });

impl Backing {
    /// Why it was chosen.
    #[must_use]
    pub const fn reason(self) -> &'static str {
        match self {
            Self::Host => "asked for in the host",
            Self::Linear32 => "the guest exports one 32-bit memory",
            Self::Segments => "the guest exports several 32-bit memories",
            Self::Native64 => "the guest's memory has 64-bit addresses",
            Self::Flat64 => {
                "the guest's memory has 64-bit addresses, and the engine has 32-bit memories only"
            }
        }
    }

    /// Backing of a memory in a guest with these linear memories.
    pub(crate) fn in_guest(memories: &[LinearMemory]) -> Self {
        match candidates(memories).as_slice() {
            [only] if memories[*only].address == AddressType::I64 => Self::Native64,
            [] | [_] => Self::Linear32,
            _ => Self::Segments,
        }
    }
}

/// A range of one linear memory of a guest. Guests address its bytes by
/// `(memory << 32) | offset`, where a single memory has index 0.
///
/// ```
/// use polychord_runtime_api::Runtime;
///
/// fn show(guest: &dyn Runtime) {
///     for segment in guest.memory_stats().iter().flat_map(|memory| &memory.segments) {
///         println!("memory {}: {} bytes at {}", segment.memory, segment.bytes, segment.start);
///     }
/// }
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Segment {
    /// Index of the linear memory.
    pub memory: usize,
    /// First byte there.
    pub start: u64,
    /// Length in bytes.
    pub bytes: u64,
}

impl Segment {
    /// Guest address of a byte of this segment.
    pub(crate) const fn address(&self, offset: u64) -> u64 {
        (self.memory as u64) << 32 | (self.start + offset)
    }
}

/// The linear memories that may hold segments, in the order in which they are filled: a
/// 64-bit `memory` alone; else the 32-bit ones, and the one with the guest's own heap last.
pub(crate) fn candidates(memories: &[LinearMemory]) -> Vec<usize> {
    match memories {
        [] => Vec::new(),
        [main, ..] if main.address == AddressType::I64 => vec![0],
        [_, others @ ..] => {
            let narrow = |(_, memory): &(usize, &LinearMemory)| memory.address == AddressType::I32;
            let others = (1..).zip(others).filter(narrow).map(|(index, _)| index);
            others.chain([0]).collect()
        }
    }
}

/// Divides `bytes` over linear memories, each given by its index and its room: into the first
/// that can hold all of it, else into as many as it takes. None if there is not enough room.
pub(crate) fn divide(bytes: u64, rooms: &[(usize, u64)]) -> Option<Vec<(usize, u64)>> {
    if let Some((index, _)) = rooms.iter().find(|(_, room)| *room >= bytes) {
        return Some(vec![(*index, bytes)]);
    }
    let mut parts = Vec::new();
    let mut left = bytes;
    for (index, room) in rooms.iter().filter(|(_, room)| *room > 0) {
        let part = left.min(*room);
        parts.push((*index, part));
        left -= part;
        if left == 0 {
            return Some(parts);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::imports::MemoryType;

    fn memory(address: AddressType) -> LinearMemory {
        LinearMemory::new("memory", MemoryType::new(0).address(address), None, 0)
    }

    #[test]
    fn the_memories_of_a_guest_decide() {
        let (narrow, wide) = (memory(AddressType::I32), memory(AddressType::I64));
        for (memories, order, backing) in [
            (vec![narrow.clone()], vec![0], Backing::Linear32),
            (vec![wide.clone()], vec![0], Backing::Native64),
            (vec![narrow.clone(); 3], vec![1, 2, 0], Backing::Segments),
            (vec![wide.clone(), narrow.clone()], vec![0], Backing::Native64),
            (vec![narrow.clone(), wide.clone()], vec![0], Backing::Linear32),
            (vec![narrow.clone(), wide, narrow], vec![2, 0], Backing::Segments),
        ] {
            assert_eq!(candidates(&memories), order);
            assert_eq!(Backing::in_guest(&memories), backing);
        }
    }

    #[test]
    fn what_fits_into_one_is_not_divided() {
        let rooms = [(1, 5), (2, 0), (3, 9), (0, 4)];
        assert_eq!(divide(5, &rooms), Some(vec![(1, 5)]));
        assert_eq!(divide(6, &rooms), Some(vec![(3, 6)]));
        assert_eq!(divide(10, &rooms), Some(vec![(1, 5), (3, 5)]));
        assert_eq!(divide(18, &rooms), Some(vec![(1, 5), (3, 9), (0, 4)]));
        assert_eq!(divide(19, &rooms), None);
        assert_eq!(divide(1, &[]), None);
    }

    proptest! {
        #[test]
        fn parts_fit_and_add_up(bytes in 1..u64::MAX, rooms in prop::collection::vec(0..u64::MAX, 0..6)) {
            let rooms: Vec<_> = rooms.into_iter().enumerate().collect();
            let all = rooms.iter().fold(0_u64, |sum, (_, room)| sum.saturating_add(*room));
            let parts = divide(bytes, &rooms);
            prop_assert_eq!(parts.is_some(), bytes <= all);
            for (index, part) in parts.iter().flatten() {
                prop_assert!(*part > 0 && *part <= rooms[*index].1);
            }
            let sum: u128 = parts.iter().flatten().map(|(_, part)| u128::from(*part)).sum();
            prop_assert!(parts.is_none() || sum == u128::from(bytes));
        }
    }
}

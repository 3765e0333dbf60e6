//! The numbers of a cache of keys and values, in the type that the host has asked for.

use core::ops::Range;

use polychord_abi::buffers::BLOCK;

use crate::kernels::{self, Half, Q8Block};
use crate::model::CacheType;
use crate::{alloc, host};

/// Keys or values of a block.
pub(crate) enum KvBuffer {
    /// As they were computed.
    F32(&'static mut [f32]),
    /// Each the nearest 16-bit float.
    F16(&'static mut [Half]),
    /// As blocks of integers with a scale.
    Q8(&'static mut [Q8Block]),
}

impl KvBuffer {
    /// Room for `len` of them, zero, anywhere in the memory.
    pub(crate) fn new(kind: CacheType, len: usize) -> Option<Self> {
        Some(match kind {
            CacheType::F32 => Self::F32(alloc::floats(len)?),
            CacheType::F16 => {
                Self::F16(alloc::bytes(len.checked_mul(size_of::<Half>())?)?.as_chunks_mut().0)
            }
            CacheType::Q8 => Self::Q8(alloc::bytes(q8_bytes(len)?)?.as_chunks_mut().0),
        })
    }

    /// The next `len` numbers of a range that the host has set aside, whose start moves behind
    /// them.
    #[cfg(not(feature = "multi32"))]
    pub(crate) fn take(kind: CacheType, len: usize, start: &mut u64) -> Option<Self> {
        let at = usize::try_from(*start).ok()?;
        *start = start.checked_add(kind.size_of(len)?)?;
        Some(match kind {
            CacheType::F32 => Self::F32(host::floats_mut(at, len)?),
            CacheType::F16 => {
                let bytes = host::bytes_mut(at, len.checked_mul(size_of::<Half>())?)?;
                Self::F16(bytes.as_chunks_mut().0)
            }
            CacheType::Q8 => Self::Q8(host::bytes_mut(at, q8_bytes(len)?)?.as_chunks_mut().0),
        })
    }

    /// Where the first one is.
    #[cfg(not(feature = "multi32"))]
    pub(crate) fn address(&self) -> u64 {
        let address = match self {
            Self::F32(numbers) => numbers.as_ptr().expose_provenance(),
            Self::F16(numbers) => numbers.as_ptr().expose_provenance(),
            Self::Q8(blocks) => blocks.as_ptr().expose_provenance(),
        };
        address as u64
    }

    /// Stores floats from number `at` on.
    pub(crate) fn put(&mut self, at: usize, new: &[f32]) {
        match self {
            Self::F32(numbers) => numbers[at..][..new.len()].copy_from_slice(new),
            Self::F16(numbers) => kernels::to_halves(new, &mut numbers[at..][..new.len()]),
            Self::Q8(blocks) => kernels::to_q8(new, &mut blocks[whole(at..at + new.len())]),
        }
    }

    /// Some of them as floats: where they are, or in `room`.
    pub(crate) fn floats<'a>(&'a self, part: Range<usize>, room: &'a mut [f32]) -> &'a [f32] {
        match self {
            Self::F32(numbers) => &numbers[part],
            Self::F16(numbers) => {
                let room = &mut room[..part.len()];
                kernels::from_halves(&numbers[part], room);
                room
            }
            Self::Q8(blocks) => {
                let room = &mut room[..part.len()];
                kernels::from_q8(&blocks[whole(part)], room);
                room
            }
        }
    }

    /// Touches some of them ahead of their use, if they are used where they are.
    pub(crate) fn touch(&self, part: Range<usize>) {
        if let Self::F32(numbers) = self {
            kernels::touch(host::as_bytes(&numbers[part]));
        }
    }

    /// Some of them as bytes.
    #[cfg(feature = "multi32")]
    pub(crate) fn bytes_mut(&mut self, part: Range<usize>) -> &mut [u8] {
        match self {
            Self::F32(numbers) => host::as_bytes_mut(&mut numbers[part]),
            Self::F16(numbers) => numbers[part].as_flattened_mut(),
            Self::Q8(blocks) => blocks[whole(part)].as_flattened_mut(),
        }
    }
}

/// The blocks of some numbers, which are whole ones: rows are (checked with the descriptor).
const fn whole(numbers: Range<usize>) -> Range<usize> {
    numbers.start / BLOCK..numbers.end / BLOCK
}

fn q8_bytes(len: usize) -> Option<usize> {
    usize::try_from(CacheType::Q8.size_of(len)?).ok()
}

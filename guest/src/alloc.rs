//! Memory that is taken from the host by `memory.grow` and never given back.
//!
//! The host grows the same memory for weights between calls, so a new range is not
//! assumed to follow the last one. New pages are zero and stay untouched until used:
//! a long context costs nothing before it is filled.
#![allow(unsafe_code)]

use core::cell::Cell;

use polychord_abi::transformer::status;

use crate::Status;
use crate::simd::{memory_grow, memory_size};

const PAGE: usize = 65_536;
const ALIGN: usize = 16;

/// The rest of the last range.
struct Rest {
    start: Cell<usize>,
    bytes: Cell<usize>,
}

// SAFETY: the module has no threads: its memory is not shared.
unsafe impl Sync for Rest {}

static REST: Rest = Rest { start: Cell::new(0), bytes: Cell::new(0) };

/// Bytes of the memory as it is now; up to 2^32 on wasm32, hence `u64`.
pub(crate) fn memory_bytes() -> u64 {
    memory_size::<0>() as u64 * PAGE as u64
}

/// Lets the next allocation grow the memory.
///
/// For a call that was stopped while it allocated: `start` and `bytes` may then be of different
/// ranges.
pub(crate) fn forget_rest() {
    REST.start.set(0);
    REST.bytes.set(0);
}

/// A number of elements, if addresses are wide enough for it.
pub(crate) fn len(number: u64) -> Result<usize, Status> {
    usize::try_from(number).map_err(|_| status::BAD_SHAPE)
}

/// Zeroed bytes aligned to 16, or none when the memory cannot grow.
pub(crate) fn bytes(len: usize) -> Option<&'static mut [u8]> {
    let len = len.max(1).checked_next_multiple_of(ALIGN)?;
    if isize::try_from(len).is_err() || !reserve(len) {
        return None;
    }
    let start = REST.start.get();
    REST.start.set(start.wrapping_add(len));
    REST.bytes.set(REST.bytes.get() - len);
    // SAFETY: `start..start + len` came from `memory.grow`, was zero then, is handed out
    // once (`REST` has just moved past it), and memory never shrinks.
    Some(unsafe {
        core::slice::from_raw_parts_mut(core::ptr::with_exposed_provenance_mut(start), len)
    })
}

/// A zeroed slice of floats.
pub(crate) fn floats(len: usize) -> Option<&'static mut [f32]> {
    zeroed(len)
}

/// A zeroed slice of integers.
pub(crate) fn words(len: usize) -> Option<&'static mut [u32]> {
    zeroed(len)
}

/// A slice of `len` values that `make` makes.
pub(crate) fn filled<T>(
    len: usize,
    mut make: impl FnMut() -> Option<T>,
) -> Option<&'static mut [T]> {
    const { assert!(align_of::<T>() <= ALIGN) };
    let room = bytes(len.checked_mul(size_of::<T>())?)?;
    let first = room.as_mut_ptr().cast::<T>();
    for index in 0..len {
        let value = make()?;
        // SAFETY: `room` has space for `len` values, is aligned for them, and index < len.
        unsafe { first.add(index).write(value) };
    }
    // SAFETY: all `len` values were written just now, in memory that nothing else owns.
    Some(unsafe { core::slice::from_raw_parts_mut(first, len) })
}

/// A type of which zero bytes are a value; each says so where it is defined.
///
/// # Safety
///
/// Zero bytes are a valid value of the type.
pub(crate) unsafe trait Zero {}
// SAFETY: numbers.
unsafe impl Zero for f32 {}
// SAFETY: numbers.
unsafe impl Zero for u32 {}

/// A slice of zeros.
pub(crate) fn zeroed<T: Zero>(len: usize) -> Option<&'static mut [T]> {
    const { assert!(align_of::<T>() <= ALIGN) };
    let room = bytes(len.checked_mul(size_of::<T>())?)?;
    // SAFETY: `room` holds at least `len` values, is aligned, zero (a value of `T`), and
    // exclusively ours.
    Some(unsafe { core::slice::from_raw_parts_mut(room.as_mut_ptr().cast(), len) })
}

/// Makes the rest hold at least `len` bytes.
fn reserve(len: usize) -> bool {
    let (start, rest) = (REST.start.get(), REST.bytes.get());
    if rest >= len {
        return true;
    }
    let grown_by_us_last = start != 0 && start as u64 + rest as u64 == memory_bytes();
    let missing = if grown_by_us_last { len - rest } else { len };
    let pages = missing.div_ceil(PAGE);
    let first = memory_grow::<0>(pages);
    if first == usize::MAX {
        return false;
    }
    if grown_by_us_last {
        REST.bytes.set(rest + pages * PAGE);
    } else {
        REST.start.set(first * PAGE);
        REST.bytes.set(pages * PAGE);
    }
    true
}

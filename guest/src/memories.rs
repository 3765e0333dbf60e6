//! Memories beside the first one, of which LLVM knows nothing.
//!
//! The imports here are no functions: `passes` puts the instruction that each is named like
//! in the place of its calls, and adds the memories. An address has the number of the memory in
//! its upper half, and 0 there means the first one.
#![allow(unsafe_code)]

use core::cell::Cell;
use core::ptr::NonNull;

use polychord_abi::{PAGE, transformer::status};

use crate::{Status, alloc, host};

/// Each memory with the instructions that copy from it, to it, and tell its size.
macro_rules! memories {
    ($($name:ident $index:literal $read:literal $write:literal $size:literal;)*) => {
        $(mod $name {
            #[link(wasm_import_module = "instruction")]
            unsafe extern "C" {
                #[link_name = $read]
                pub(super) fn read(to: *mut u8, from: u32, len: usize);
                #[link_name = $write]
                pub(super) fn write(to: u32, from: *const u8, len: usize);
                #[link_name = $size]
                pub(super) safe fn pages() -> u32;
            }
        })*

        /// Size of a memory in pages; none if there is no such memory.
        fn pages(memory: u32) -> Option<u32> {
            match memory {
                $($index => Some($name::pages()),)*
                _ => None,
            }
        }

        /// Fills `to` from a range of a memory that has been found to be there.
        fn copy_from(memory: u32, from: u32, to: &mut [u8]) {
            match memory {
                // SAFETY: writes to the bytes of `to` alone.
                $($index => unsafe { $name::read(to.as_mut_ptr(), from, to.len()) },)*
                _ => {}
            }
        }

        /// Copies `from` to a range of a memory, not the first, that has been found to be there.
        fn copy_to(memory: u32, to: u32, from: &[u8]) {
            match memory {
                // SAFETY: reads the bytes of `from` alone, and writes to a memory in which there
                // are no objects.
                $($index => unsafe { $name::write(to, from.as_ptr(), from.len()) },)*
                _ => {}
            }
        }
    };
}

memories! {
    first 1 "memory.copy 0 1" "memory.copy 1 0" "memory.size 1";
    second 2 "memory.copy 0 2" "memory.copy 2 0" "memory.size 2";
    third 3 "memory.copy 0 3" "memory.copy 3 0" "memory.size 3";
    fourth 4 "memory.copy 0 4" "memory.copy 4 0" "memory.size 4";
    fifth 5 "memory.copy 0 5" "memory.copy 5 0" "memory.size 5";
    sixth 6 "memory.copy 0 6" "memory.copy 6 0" "memory.size 6";
    seventh 7 "memory.copy 0 7" "memory.copy 7 0" "memory.size 7";
    eighth 8 "memory.copy 0 8" "memory.copy 8 0" "memory.size 8";
    ninth 9 "memory.copy 0 9" "memory.copy 9 0" "memory.size 9";
}

/// Bytes that are brought in at once, unless a row is longer: few enough for a second-level
/// cache.
const STAGE_BYTES: usize = 64 << 10;

/// Where rows are brought to.
struct Stage {
    room: Cell<Option<NonNull<[u8]>>>,
    /// Whether a call of [`stage`] uses it.
    lent: Cell<bool>,
}

// SAFETY: the module has no threads: its memory is not shared.
unsafe impl Sync for Stage {}

static STAGE: Stage = Stage { room: Cell::new(None), lent: Cell::new(false) };

/// Makes room for rows of at most `row_bytes`: once, so that a call that is stopped loses none.
pub(crate) fn prepare(row_bytes: usize) -> Result<(), Status> {
    let room = alloc::bytes(row_bytes.max(STAGE_BYTES)).ok_or(status::OUT_OF_MEMORY)?;
    STAGE.room.set(Some(room.into()));
    Ok(())
}

/// Takes the room back from a call that was stopped.
pub(crate) fn restart() {
    STAGE.lent.set(false);
}

/// Brings in rows of `row_bytes` each from `start` on, some at a time, and calls `use_rows` with
/// them and the number of the first one.
pub(crate) fn stage(
    start: u64,
    rows: usize,
    row_bytes: usize,
    mut use_rows: impl FnMut(&[u8], usize),
) -> Result<(), Status> {
    // Kernels take four rows at a time, if that many fit.
    let most = (STAGE_BYTES / row_bytes) & !3;
    let height = most.max(1).min(rows.max(1));
    let mut room = STAGE.room.get().ok_or(status::BAD_ORDER)?;
    if room.len() < height * row_bytes || STAGE.lent.replace(true) {
        return Err(status::BAD_ORDER);
    }
    // SAFETY: `prepare` got it for this alone, and `lent` was not set: there is no other reference.
    let room = unsafe { room.as_mut() };
    let mut result = Ok(());
    for first in (0..rows).step_by(height) {
        let part = &mut room[..height.min(rows - first) * row_bytes];
        if read(start + (first * row_bytes) as u64, part).is_none() {
            result = Err(status::LAYER_REFUSED);
            break;
        }
        use_rows(part, first);
    }
    STAGE.lent.set(false);
    result
}

/// Writes bytes to an address beside the first memory; none if there is no room.
pub(crate) fn write(address: u64, from: &[u8]) -> Option<()> {
    let (memory, offset) = locate(address, from.len())?;
    // There are objects in the first memory.
    (memory != 0).then(|| copy_to(memory, offset, from))
}

/// Reads bytes from an address; none if they are not there.
pub(crate) fn read(address: u64, to: &mut [u8]) -> Option<()> {
    let (memory, offset) = locate(address, to.len())?;
    if memory == 0 {
        to.copy_from_slice(host::bytes(offset as usize, to.len())?);
    } else {
        copy_from(memory, offset, to);
    }
    Some(())
}

/// The memory and the offset of a range, if it is there.
fn locate(address: u64, len: usize) -> Option<(u32, u32)> {
    let memory = u32::try_from(address >> 32).ok()?;
    let offset = u32::try_from(address & u64::from(u32::MAX)).ok()?;
    let there = memory == 0
        || u64::from(offset) + len as u64 <= u64::from(pages(memory)?).saturating_mul(PAGE);
    there.then_some((memory, offset))
}

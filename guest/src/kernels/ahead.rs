//! Touching stored weights ahead of their use, for processors that do not prefetch them while a
//! product is computed: whether that pays, and how much at once, the host finds out.

use core::hint::black_box;
use core::sync::atomic::{AtomicUsize, Ordering};

/// Bytes that are touched at once; 0 for none.
static BURST: AtomicUsize = AtomicUsize::new(0);

/// What a processor fetches at once.
const LINE: usize = 64;

/// Sets how many bytes are touched at once, ahead of being used; 0 for none.
pub(crate) fn set(bytes: usize) {
    BURST.store(bytes, Ordering::Relaxed);
}

/// How many bytes are touched at once; 0 for none.
#[inline(always)]
pub(super) fn burst() -> usize {
    BURST.load(Ordering::Relaxed)
}

/// Loads a byte of each line, one after the other, with nothing between them: so that all are on
/// their way at once, and the processor sees where they lead. Their sum is stored, since what
/// nothing depends on is not compiled.
#[inline(never)]
pub(crate) fn touch(bytes: &[u8]) {
    let lines = bytes.chunks(LINE).filter_map(<[u8]>::first);
    black_box(lines.fold(0, |sum: u32, byte| sum ^ u32::from(*byte)));
}

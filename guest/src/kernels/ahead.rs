//! Touching stored weights ahead of their use, for processors that do not prefetch them while a
//! product is computed: whether that pays, and how much at once, the host finds out.

use core::hint::black_box;
use core::sync::atomic::{AtomicUsize, Ordering};

use super::rows::Rows;

/// Bytes that are touched at once; 0 for none.
static BURST: AtomicUsize = AtomicUsize::new(0);

/// What a processor fetches at once.
const LINE: usize = 64;

/// Sets how many bytes are touched at once, ahead of being used; 0 for none.
pub(crate) fn set(bytes: usize) {
    BURST.store(bytes, Ordering::Relaxed);
}

/// Multiplies rows with one column by `multiply`: all at once, or, where they are touched first, as
/// many as a burst has. The sum of a row is the same.
#[inline(always)]
pub(super) fn multiply(
    w: &Rows<'_>,
    y: &mut [f32],
    mut multiply: impl FnMut(&Rows<'_>, &mut [f32]),
) {
    match BURST.load(Ordering::Relaxed) {
        0 => multiply(w, y),
        burst => in_bursts(w, y, burst, &mut multiply),
    }
}

#[cold]
#[inline(never)]
fn in_bursts(
    w: &Rows<'_>,
    y: &mut [f32],
    burst: usize,
    multiply: &mut dyn FnMut(&Rows<'_>, &mut [f32]),
) {
    let rows = (burst / w.row_bytes).max(1);
    let parts = w.bytes.chunks(rows.saturating_mul(w.row_bytes));
    for (bytes, y) in parts.zip(y.chunks_mut(rows)) {
        touch(bytes);
        multiply(&Rows { bytes, ..*w }, y);
    }
}

/// Loads a byte of each line, one after the other, with nothing between them: so that all are on
/// their way at once, and the processor sees where they lead. Their sum is stored, since what
/// nothing depends on is not compiled.
#[inline(never)]
fn touch(bytes: &[u8]) {
    let lines = bytes.chunks(LINE).filter_map(<[u8]>::first);
    black_box(lines.fold(0, |sum: u32, byte| sum ^ u32::from(*byte)));
}

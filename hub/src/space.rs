//! Which errors mean that a disk is full, and how that is told.

use std::io;
use std::path::Path;

/// Whether a disk is full, or what the user may have of it.
pub(super) fn is_full(error: &io::Error) -> bool {
    use io::ErrorKind::{FileTooLarge, QuotaExceeded, StorageFull};

    matches!(error.kind(), StorageFull | QuotaExceeded | FileTooLarge)
}

/// Says what is full, and what to do.
pub(super) fn describe(folder: &Path, needed: Option<u64>, free: Option<u64>) -> String {
    let needed = needed.map(|bytes| format!(", {} needed", megabytes(bytes)));
    let free = free.map(|bytes| format!(", {} free", megabytes(bytes)));
    format!(
        "the disk is full (or a quota used up) at {}{}{}: make room, or set POLYCHORD_CACHE to a \
         folder on another disk",
        folder.display(),
        needed.unwrap_or_default(),
        free.unwrap_or_default()
    )
}

fn megabytes(bytes: u64) -> String {
    format!("{}.{} MB", bytes / 1_000_000, bytes / 100_000 % 10)
}

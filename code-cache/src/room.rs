//! Removes code that was not used for the longest time.

use std::time::{Duration, SystemTime};

use polychord_folders::{Folder, FoundFile};

use crate::key::SUFFIX;

/// A file that is still being written is younger; one that is older was left by a process that ended, also where
/// locks do not tell.
const ABANDONED: Duration = Duration::from_secs(3600);

/// Removes files until those that are left have at most `most` bytes; never the one that was just
/// written. Other processes may do the same at the same time: nothing depends on a file being there,
/// and what cannot be removed stays.
pub(crate) fn make(folder: &Folder, most: u64, newest: &str) {
    let found = folder.files().unwrap_or_else(|error| {
        tracing::warn!("the cache of compiled code is not bounded: {error}");
        Vec::new()
    });
    let now = SystemTime::now();
    let is_abandoned = |file: &FoundFile| {
        let age = now.duration_since(file.modified).unwrap_or_default();
        let is_old = file.name.starts_with(".part-") && age > ABANDONED;
        !file.name.ends_with(SUFFIX) && (is_old || folder.is_abandoned(file))
    };
    let (abandoned, kept): (Vec<_>, Vec<_>) = found.into_iter().partition(is_abandoned);
    for file in &abandoned {
        remove(folder, file);
    }
    let mut kept: Vec<_> = kept.into_iter().filter(|file| file.name.ends_with(SUFFIX)).collect();
    let mut total: u64 = kept.iter().map(|file| file.len).sum();
    kept.sort_by_key(|file| file.modified);
    for file in kept.iter().filter(|file| file.name != newest) {
        if total <= most {
            break;
        }
        remove(folder, file);
        total = total.saturating_sub(file.len);
    }
}

fn remove(folder: &Folder, file: &FoundFile) {
    let (name, len) = (&*file.name, file.len);
    match folder.remove_file(name) {
        Ok(()) => tracing::debug!(name, len, "compiled code was removed, to make room"),
        Err(error) => tracing::warn!("compiled code stays in the cache: {error}"),
    }
}

//! Folders that one process compiles into, and what is left of them when it is killed.

use std::fs::{self, File};
use std::io;
use std::path::Path;
use std::time::{Duration, SystemTime};

use tempfile::TempDir;

/// A new folder for this user alone, which is removed when this is dropped.
#[derive(Debug)]
pub(super) struct Private {
    folder: TempDir,
    /// Locked while the process lives, where the file system has locks.
    _lock: Option<File>,
}

/// How names of such folders begin.
const PREFIX: &str = "part-";

/// The file in it that is locked.
const LOCK: &str = "lock";

/// How long a folder may be there before it is locked.
const BEGINNING: Duration = Duration::from_secs(10);

impl Private {
    /// Makes one in a folder.
    pub(super) fn new(parent: &Path) -> io::Result<Self> {
        let folder = tempfile::Builder::new().prefix(PREFIX).tempdir_in(parent)?;
        let lock = File::create_new(folder.path().join(LOCK))?;
        let is_locked = lock.try_lock().is_ok();
        Ok(Self { folder, _lock: is_locked.then_some(lock) })
    }

    pub(super) fn path(&self) -> &Path {
        self.folder.path()
    }
}

/// Removes those that processes have left which were killed. What cannot be looked at or removed stays.
pub(super) fn remove_abandoned(parent: &Path) {
    for entry in fs::read_dir(parent).into_iter().flatten().flatten() {
        let is_part = entry.file_name().to_str().is_some_and(|name| name.starts_with(PREFIX));
        if is_part
            && entry.file_type().is_ok_and(|kind| kind.is_dir())
            && is_abandoned(&entry.path())
        {
            match fs::remove_dir_all(entry.path()) {
                Ok(()) => {
                    tracing::debug!(path = %entry.path().display(), "removed what a killed compiler left")
                }
                Err(error) => tracing::warn!("what a killed compiler left stays: {error}"),
            }
        }
    }
}

fn is_abandoned(folder: &Path) -> bool {
    let lock = folder.join(LOCK);
    let made = fs::metadata(&lock).and_then(|found| found.modified());
    let age = made.map(|made| SystemTime::now().duration_since(made).unwrap_or_default());
    age.is_ok_and(|age| age > BEGINNING)
        && File::open(lock).is_ok_and(|lock| lock.try_lock().is_ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_killed_process_has_left_is_removed() {
        let parent = tempfile::tempdir().unwrap();
        let living = Private::new(parent.path()).unwrap();
        let [left, new] = ["part-left", "part-new"].map(|name| parent.path().join(name));
        for folder in [&left, &new] {
            fs::create_dir(folder).unwrap();
            fs::write(folder.join("guest.so"), "half").unwrap();
            File::create(folder.join(LOCK)).unwrap();
        }
        let old = SystemTime::now() - 2 * BEGINNING;
        for folder in [left.as_path(), living.path()] {
            File::options().write(true).open(folder.join(LOCK)).unwrap().set_modified(old).unwrap();
        }
        remove_abandoned(parent.path());
        assert!(!left.exists() && new.exists() && living.path().exists());
    }
}

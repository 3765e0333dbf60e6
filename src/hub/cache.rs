//! Where models lie on disk, and how one gets there without anybody ever seeing half of it.
//!
//! ```text
//! <cache>/models/<model>.gguf              complete and verified, always put there by a rename
//! <cache>/models/<model>.gguf.sha256-ok    its digest, with the size and time it was verified at
//! <cache>/partial/<key>/                   work in progress on one model, owned by the lock
//! <cache>/partial/<key>.lock               held by the process that fetches it
//! ```

use std::env;
use std::fs::{self, File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};
use std::process;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::digest::{self, Expected, Verified};
use super::error::{Context as _, Error};
use super::progress::Progress;

/// Work in progress that nobody touched for this long is garbage.
const STALE: Duration = Duration::from_secs(7 * 24 * 60 * 60);

/// The names of what a later run can go on with.
const RESUMABLE: [&str; 2] = ["download", "download.etag"];

/// The user's cache folder.
pub(super) fn default_root() -> Result<PathBuf, Error> {
    let set = |name| env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let root = set("POLYCHORD_CACHE")
        .or_else(|| Some(set("XDG_CACHE_HOME").filter(|p| p.is_absolute())?.join("polychord")))
        .or_else(|| Some(dirs::cache_dir()?.join("polychord")))
        .ok_or(Error::NoCacheFolder)?;
    std::path::absolute(&root).in_cache("find", &root)
}

/// The place of one model in the cache.
#[derive(Debug)]
pub(super) struct Slot {
    file: PathBuf,
    work: PathBuf,
}

impl Slot {
    /// `name` is the path below `models`; its parts were checked where the reference was parsed.
    pub(super) fn new(root: &Path, name: &str) -> Self {
        let digest = digest::hash_text(name);
        let key = digest.get(..16).unwrap_or(&digest);
        Self { file: root.join("models").join(name), work: root.join("partial").join(key) }
    }

    /// The folder for work in progress.
    pub(super) fn work(&self) -> &Path {
        &self.work
    }

    /// The model's path, if it is there and good. Reads all of it only if it changed since it was
    /// last verified.
    pub(super) fn valid(&self, expected: &Expected) -> Option<PathBuf> {
        let found = Stamp::of(&self.file)?;
        if expected.size.is_some_and(|size| size != found.size) {
            return None;
        }
        let mark = Mark::read(&self.mark());
        let sha256 = expected.sha256.clone().or_else(|| Some(mark.as_ref()?.sha256.clone()))?;
        if mark.is_some_and(|mark| mark.stamp == found && mark.sha256 == sha256) {
            return Some(self.file.clone());
        }
        let (_, actual) = digest::hash_file(&self.file).ok()?;
        if actual != sha256 {
            return None;
        }
        // In a cache that is read-only, the next run reads it again.
        let _ = Mark { sha256, stamp: found }.write(&self.mark(), self.file.parent()?);
        Some(self.file.clone())
    }

    /// Waits until no other process works on this model, and clears what a dead one left behind.
    pub(super) fn lock(&self, progress: &mut dyn Progress) -> Result<Guard, Error> {
        for dir in [self.work.parent(), self.file.parent()].into_iter().flatten() {
            fs::create_dir_all(dir).in_cache("create", dir)?;
        }
        let path = self.work.with_extension("lock");
        let file = open_lock(&path).in_cache("open", &path)?;
        let guard = loop {
            match file.try_lock() {
                Ok(()) => break Guard { lock: Some(file) },
                Err(TryLockError::WouldBlock) => {
                    progress.report("waiting for another process that fetches it", 0, None);
                    thread::sleep(Duration::from_millis(100));
                }
                // Some network file systems: unique names and renames must do, without resuming.
                Err(TryLockError::Error(e)) if e.kind() == io::ErrorKind::Unsupported => {
                    break Guard { lock: None };
                }
                Err(TryLockError::Error(e)) => return Err(e).in_cache("lock", &path),
            }
        };
        // Only now: whoever held the lock before removed its folder.
        fs::create_dir_all(&self.work).in_cache("create", &self.work)?;
        if guard.is_exclusive() {
            clear(&self.work);
            sweep(&self.work);
        }
        Ok(guard)
    }

    /// Gives a verified file its final name. The mark goes first: a crash in between leaves a mark
    /// that fits no file, never a file without a known digest.
    pub(super) fn commit(&self, verified: &Verified) -> Result<PathBuf, Error> {
        let stamp = Stamp::of(&verified.path)
            .ok_or_else(|| io::Error::from(io::ErrorKind::NotFound))
            .in_cache("inspect", &verified.path)?;
        let mark = Mark { sha256: verified.sha256.clone(), stamp };
        mark.write(&self.mark(), &self.work).in_cache("write", &self.mark())?;
        fs::rename(&verified.path, &self.file).in_cache("put the model at", &self.file)?;
        if let Some(parent) = self.file.parent() {
            // Makes the rename itself durable, where a folder can be flushed (not on Windows).
            let _ = File::open(parent).and_then(|dir| dir.sync_all());
        }
        Ok(self.file.clone())
    }

    /// Removes the work in progress; call with the lock held.
    pub(super) fn clean(&self, guard: &Guard) {
        if guard.is_exclusive() {
            let _ = fs::remove_dir_all(&self.work);
        }
    }

    fn mark(&self) -> PathBuf {
        let mut name = self.file.clone().into_os_string();
        name.push(".sha256-ok");
        name.into()
    }
}

/// Held while a model is fetched.
#[derive(Debug)]
pub(super) struct Guard {
    /// Unlocks when it is dropped.
    lock: Option<File>,
}

impl Guard {
    /// Whether nobody else can be at work on the same model.
    pub(super) fn is_exclusive(&self) -> bool {
        self.lock.is_some()
    }
}

/// What shows cheaply that a file did not change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Stamp {
    size: u64,
    modified: u128,
}

impl Stamp {
    fn of(path: &Path) -> Option<Self> {
        let meta = fs::metadata(path).ok().filter(fs::Metadata::is_file)?;
        let modified = meta.modified().ok()?.duration_since(UNIX_EPOCH).ok()?.as_nanos();
        Some(Self { size: meta.len(), modified })
    }
}

/// The digest of a file, and the stamp it had when that was computed.
#[derive(Debug)]
struct Mark {
    sha256: String,
    stamp: Stamp,
}

impl Mark {
    fn read(path: &Path) -> Option<Self> {
        let text = fs::read_to_string(path).ok()?;
        let mut words = text.split_whitespace();
        let sha256 = words.next().filter(|word| digest::is_sha256(word))?.to_owned();
        let size = words.next()?.parse().ok()?;
        let modified = words.next()?.parse().ok()?;
        Some(Self { sha256, stamp: Stamp { size, modified } })
    }

    fn write(&self, path: &Path, work: &Path) -> io::Result<()> {
        // Not a file of `tempfile`: those are for the user's eyes only, and a cache may be shared.
        let temporary = work.join(unique(".mark"));
        let text = format!("{} {} {}\n", self.sha256, self.stamp.size, self.stamp.modified);
        fs::write(&temporary, text)?;
        fs::rename(&temporary, path).inspect_err(|_| remove(&temporary))
    }
}

/// A file name that no other process or thread uses.
pub(super) fn unique(name: &str) -> String {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    format!("{name}-{}-{number}", process::id())
}

fn open_lock(path: &Path) -> io::Result<File> {
    File::options().create(true).truncate(false).write(true).open(path)
}

/// Empties a work folder but for what can be resumed.
fn clear(work: &Path) {
    for entry in fs::read_dir(work).into_iter().flatten().flatten() {
        if !RESUMABLE.iter().any(|name| entry.file_name() == *name) {
            remove(&entry.path());
        }
    }
}

/// Removes the stale work of other models, unless somebody is at it.
fn sweep(own: &Path) {
    let Some(partial) = own.parent() else { return };
    for entry in fs::read_dir(partial).into_iter().flatten().flatten() {
        let path = entry.path();
        if path == own || !path.is_dir() || !is_stale(&path) {
            continue;
        }
        if let Ok(lock) = open_lock(&path.with_extension("lock"))
            && lock.try_lock().is_ok()
        {
            remove(&path);
        }
    }
}

fn is_stale(path: &Path) -> bool {
    let modified = fs::metadata(path).and_then(|meta| meta.modified());
    modified.is_ok_and(|at| SystemTime::now().duration_since(at).is_ok_and(|age| age > STALE))
}

fn remove(path: &Path) {
    // What cannot be removed is in nobody's way: every name that is created is new or overwritten.
    let _ = if path.is_dir() { fs::remove_dir_all(path) } else { fs::remove_file(path) };
}

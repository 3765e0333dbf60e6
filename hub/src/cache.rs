//! Where models lie on disk, and how one gets there without a reader ever seeing half of it.
//!
//! ```text
//! <cache>/models/<model>.gguf              complete and verified, always put there by a rename
//! <cache>/models/<model>.gguf.sha256-ok    its digest, with the size and time it was verified at
//! <cache>/partial/<key>-<user>/            one user's work on one model, owned by the lock
//! <cache>/partial/<key>-<user>.lock        held by the process that fetches it
//! ```
//!
//! A cache may be shared: one that others cannot write to is read by all, and where `models` and
//! `partial` belong to root and are sticky, all may add to it. Nothing is written in a folder in
//! which another user could exchange what is ours, and a file is only ever created where nothing
//! has its name, so that no link leads a fetch to another file. What other users have put into a
//! shared cache is hashed each time, and its notes are not believed; a user who can write to the
//! file of a model could still change it after that. The owner of the cache is trusted.

use std::env;
use std::fs::{self, File, TryLockError};
use std::io::{self, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::process;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use polychord_folders::{self as folders, Access, Folder};

use super::digest::{self, Expected, Verified};
use super::error::{Context as _, Error};
use super::progress::Progress;

/// Work in progress that was not touched for this long is garbage.
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
    root: PathBuf,
    file: PathBuf,
    /// Name of the folder for work in progress, without a suffix.
    key: String,
}

impl Slot {
    /// `name` is the path below `models`; its parts were checked where the reference was parsed.
    pub(super) fn new(root: &Path, name: &str) -> Self {
        let digest = digest::hash_text(name);
        let key = format!("{}-{}", digest.get(..16).unwrap_or(&digest), folders::user());
        Self { root: root.into(), file: Self::folder(root, name), key }
    }

    /// A folder below `models`.
    pub(super) fn folder(root: &Path, name: &str) -> PathBuf {
        root.join("models").join(name)
    }

    /// The model's path, if it is there and good. Reads all of it only if it changed since it was
    /// last verified.
    pub(super) fn valid(&self, expected: &Expected) -> Option<PathBuf> {
        let mut file = open_model(&self.file)?;
        let found = Stamp::of(&file)?;
        if expected.size.is_some_and(|size| size != found.size) {
            return None;
        }
        let mark = Mark::read(&self.mark(), &self.root);
        let sha256 = expected.sha256.clone().or_else(|| Some(mark.as_ref()?.sha256.clone()))?;
        let is_marked = mark.is_some_and(|mark| mark.stamp == found && mark.sha256 == sha256);
        if is_marked && folders::has_trusted_owner(&file, &self.root) {
            return Some(self.file.clone());
        }
        let (_, actual) = digest::hash_file(&mut file).ok()?;
        if actual != sha256 {
            return None;
        }
        // In a cache that is read-only, the next run reads it again.
        let _ = Mark { sha256, stamp: found }.write(&self.mark(), self.file.parent()?);
        Some(self.file.clone())
    }

    /// Waits until no other process works on this model, and clears what a dead one left behind.
    pub(super) fn lock(&self, progress: &mut dyn Progress) -> Result<Guard, Error> {
        if let Some(models) = self.file.parent() {
            Folder::make(models, Access::Shared)?;
        }
        let partial = Folder::make(&self.root.join("partial"), Access::Shared)?;
        let name = format!("{}.lock", self.key);
        let lock = wait_for(open_lock(&partial, &name)?, &partial.path().join(name), progress);
        // Only now: the previous holder of the lock removed its folder.
        let work = Folder::make(&partial.path().join(&self.key), Access::Private)?;
        if lock.is_some() {
            clear(work.path());
            sweep(&partial, &self.key);
        }
        Ok(Guard { lock, work })
    }

    /// Gives a verified file its final name. The mark goes first: a crash in between leaves a mark
    /// that fits no file, never a file without a known digest.
    pub(super) fn commit(&self, guard: &Guard, verified: &Verified) -> Result<PathBuf, Error> {
        let stamp = File::open(&verified.path).in_cache("inspect", &verified.path)?;
        let stamp = Stamp::of(&stamp)
            .ok_or_else(|| io::Error::from(io::ErrorKind::NotFound))
            .in_cache("inspect", &verified.path)?;
        let sha256 = verified.sha256.clone();
        let mark = Mark { sha256: sha256.clone(), stamp };
        let placed = mark
            .write(&self.mark(), guard.work.path())
            .in_cache("write", &self.mark())
            .and_then(|()| {
                fs::rename(&verified.path, &self.file).in_cache("put the model at", &self.file)
            });
        if let Err(error) = placed {
            // In a sticky folder, the model of another user cannot be replaced; it may do.
            let same = Expected { size: Some(stamp.size), sha256: Some(sha256) };
            return self.valid(&same).ok_or(error);
        }
        if let Some(parent) = self.file.parent() {
            // Makes the rename itself durable, where a folder can be flushed (not on Windows).
            let _ = File::open(parent).and_then(|dir| dir.sync_all());
        }
        Ok(self.file.clone())
    }

    /// Removes the work in progress; call with the lock held.
    pub(super) fn clean(&self, guard: &Guard) {
        if guard.is_exclusive() {
            let _ = fs::remove_dir_all(guard.work.path());
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
    work: Folder,
}

impl Guard {
    /// Whether no other process can be at work on the same model.
    pub(super) fn is_exclusive(&self) -> bool {
        self.lock.is_some()
    }

    /// The folder for work in progress.
    pub(super) fn work(&self) -> &Folder {
        &self.work
    }
}

/// What shows cheaply that a file did not change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Stamp {
    size: u64,
    modified: u128,
}

impl Stamp {
    fn of(file: &File) -> Option<Self> {
        let meta = file.metadata().ok().filter(fs::Metadata::is_file)?;
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
    /// Reads a mark; none if a user could have written it who may not change the cache itself.
    fn read(path: &Path, root: &Path) -> Option<Self> {
        let file = open_model(path)?;
        if folders::others_may_write(&file) || !folders::has_trusted_owner(&file, root) {
            return None;
        }
        let mut text = String::new();
        file.take(MARK_BYTES).read_to_string(&mut text).ok()?;
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
        let written = folders::create_new(&temporary)?.write_all(text.as_bytes());
        written.and_then(|()| fs::rename(&temporary, path)).inspect_err(|_| remove(&temporary))
    }
}

/// Longer than any mark.
const MARK_BYTES: u64 = 4096;

/// Opens a file that was found by its name: no pipe, on which opening would wait.
fn open_model(path: &Path) -> Option<File> {
    fs::metadata(path).ok().filter(fs::Metadata::is_file)?;
    File::open(path).ok()
}

/// A file name that no other process or thread uses.
pub(super) fn unique(name: &str) -> String {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    format!("{name}-{}-{number}", process::id())
}

/// Opens the user's own lock, or creates it in the place of what is none.
fn open_lock(partial: &Folder, name: &str) -> Result<File, folders::Error> {
    // Another process may create it first.
    for _ in 0..8 {
        match partial.open_file_to_write(name) {
            Ok(Some(file)) => return Ok(file),
            Ok(None) => {}
            Err(folders::Error::Unsafe { path, problem }) => {
                partial.remove_file(name).map_err(|_| folders::Error::Unsafe { path, problem })?
            }
            Err(error) => return Err(error),
        }
        match partial.create_file(name, 0o644) {
            Err(folders::Error::Io { source, .. })
                if source.kind() == io::ErrorKind::AlreadyExists => {}
            created => return created,
        }
    }
    partial.create_file(name, 0o644)
}

/// Waits for the lock. None if the file system has no locks, as some network file systems: unique
/// names and renames must do then, without resuming.
fn wait_for(file: File, path: &Path, progress: &mut dyn Progress) -> Option<File> {
    loop {
        match file.try_lock() {
            Ok(()) => return Some(file),
            Err(TryLockError::WouldBlock) => {
                progress.report("waiting for another process that fetches it", 0, None);
                thread::sleep(Duration::from_millis(100));
            }
            Err(TryLockError::Error(e)) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(TryLockError::Error(e)) => {
                let path = path.display();
                progress.warn(&format!(
                    "cannot lock {path} ({e}): going on without a lock, so an interrupted fetch \
                     will begin anew, and another process may fetch the same"
                ));
                return None;
            }
        }
    }
}

/// Empties a work folder but for what can be resumed.
fn clear(work: &Path) {
    for entry in fs::read_dir(work).into_iter().flatten().flatten() {
        if !RESUMABLE.iter().any(|name| entry.file_name() == *name) {
            remove(&entry.path());
        }
    }
}

/// Removes the stale work on other models, unless another process is at it.
fn sweep(partial: &Folder, own: &str) {
    for entry in fs::read_dir(partial.path()).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let Some(name) = name.to_str().filter(|name| *name != own) else { continue };
        let is_folder = entry.file_type().is_ok_and(|kind| kind.is_dir());
        if !is_folder || !is_stale(&entry.path()) {
            continue;
        }
        if let Ok(lock) = open_lock(partial, &format!("{name}.lock"))
            && lock.try_lock().is_ok()
        {
            remove(&entry.path());
        }
    }
}

fn is_stale(path: &Path) -> bool {
    let modified = fs::metadata(path).and_then(|meta| meta.modified());
    modified.is_ok_and(|at| SystemTime::now().duration_since(at).is_ok_and(|age| age > STALE))
}

fn remove(path: &Path) {
    // What cannot be removed does no harm: every name that is created is new or overwritten.
    let _ = if path.is_dir() { fs::remove_dir_all(path) } else { fs::remove_file(path) };
}

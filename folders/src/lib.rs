//! Folders that no other user can change, and files in them that are opened only once.
//!
//! A cache lies at a path that others can predict. A user who can write to one of the folders on the
//! way can put a link, or a folder of their own, in the place of ours: between a check and the use
//! that relies on it, too. So [`Folder`] checks every folder and link on the way and keeps a
//! descriptor of the last one, and files in it are opened by that descriptor, without following
//! links, and checked after they are opened.
//!
//! POSIX access control lists need no check of their own: the group bits of the mode are the upper
//! bound of what a list grants to named users and groups. The lists of other
//! systems (NFSv4, macOS) are not seen. On systems other than Unix nothing is checked: there the
//! folders of a user are private by default.

use std::io;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

#[cfg(not(unix))]
#[path = "other.rs"]
mod system;
#[cfg(unix)]
#[path = "unix.rs"]
mod system;
#[cfg(unix)]
mod walk;

pub use system::{Folder, create_new, free_space, has_trusted_owner, others_may_write, user};

/// Who else may create files in a folder.
///
/// ```no_run
/// use polychord_folders::{Access, Folder};
///
/// let cache = Folder::make("/var/cache/mine".as_ref(), Access::Private)?;
/// # Ok::<(), polychord_folders::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// No other user; the folder belongs to the user who runs this.
    Private,
    /// Others only if the folder is sticky, so that they cannot replace what is ours; it belongs
    /// to root or to the user who runs this.
    Shared,
}

/// A file of a folder, as [`Folder::files`] found it.
///
/// ```
/// use polychord_folders::{Folder, Result};
///
/// fn total(folder: &Folder) -> Result<u64> {
///     Ok(folder.files()?.iter().map(|file| file.len).sum())
/// }
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct FoundFile {
    /// Its name in the folder.
    pub name: String,
    /// How many bytes it has.
    pub len: u64,
    /// When it was last written, in whole seconds on Unix.
    pub modified: SystemTime,
}

/// Why a folder or a file cannot be used.
///
/// ```
/// use polychord_folders::{Access, Error, Folder};
///
/// let error = Folder::open("/no/such/folder".as_ref(), Access::Private).unwrap_err();
/// assert!(matches!(error, Error::Io { .. }), "{error}");
/// ```
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The system refused an operation.
    #[error("cannot {action} {}: {source}", path.display())]
    Io {
        /// What was tried, as a verb.
        action: &'static str,
        /// On which file or folder.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Other users could change the folder or file, or have put it there.
    #[error("{} {problem}", path.display())]
    Unsafe {
        /// Which file or folder.
        path: PathBuf,
        /// Its owner and mode as far as they are the problem, and what to do.
        problem: String,
    },
}

/// Result with the [`Error`] of this crate.
///
/// ```
/// use polychord_folders::{Folder, Result};
///
/// fn settings(folder: &Folder) -> Result<Vec<u8>> {
///     Ok(folder.read("settings")?.unwrap_or_default())
/// }
/// ```
pub type Result<T> = std::result::Result<T, Error>;

fn failed(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Error {
    let path = path.to_owned();
    move |source| Error::Io { action, path, source }
}

/// How names of files begin that are renamed later.
const TEMPORARY: &str = ".part-";

/// How long a file may be there before it is locked.
#[cfg(unix)]
const BEGINNING: std::time::Duration = std::time::Duration::from_secs(10);

#[cfg(unix)]
fn is_temporary(name: &str) -> bool {
    name.starts_with(TEMPORARY)
}

/// Name for a file that is renamed later; no other process or thread uses it, but others may
/// have taken it, so the file is created anew or not at all.
fn temporary_name() -> String {
    use std::sync::atomic::{AtomicU32, Ordering};

    static NEXT: AtomicU32 = AtomicU32::new(0);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    let time = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    let nanos = time.map_or(0, |time| time.subsec_nanos());
    format!("{TEMPORARY}{}-{number}-{nanos:08x}", std::process::id())
}

//! Folders by descriptor.

use std::fs::File;
use std::io::{self, Read as _, Write as _};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, Stat};
use rustix::io::Errno;
use rustix::process::geteuid;

use crate::walk::{Made, walk};
use crate::{Access, Error, FoundFile, Result, failed, temporary_name};

/// A folder that was checked from the root on, by its descriptor.
///
/// ```no_run
/// use polychord_folders::{Access, Folder};
///
/// let folder = Folder::make("/var/cache/mine".as_ref(), Access::Private)?;
/// // All of it, or nothing.
/// folder.replace("greeting", &[b"hello, ", b"world"], 0o600)?;
/// assert_eq!(folder.read("greeting")?.as_deref(), Some(&b"hello, world"[..]));
/// # Ok::<(), polychord_folders::Error>(())
/// ```
#[derive(Debug)]
pub struct Folder {
    fd: OwnedFd,
    path: PathBuf,
    access: Access,
}

/// How often a temporary name is tried, as another user may have taken some of them.
const ATTEMPTS: usize = 16;

impl Folder {
    /// Opens a folder, and makes it and those above it that are missing: with mode 0700 if it is
    /// private, and 0755 otherwise, whatever the umask allows beyond that.
    ///
    /// # Errors
    ///
    /// [`Error::Unsafe`] names the first folder or link on the way that others could exchange:
    /// every one of them belongs to root or to the user who runs this, and no other user may
    /// write to a folder that is not sticky.
    pub fn make(path: &Path, access: Access) -> Result<Self> {
        Self::walk(path, access, Made::IfMissing)
    }

    /// Opens a folder that exists.
    ///
    /// # Errors
    ///
    /// Returns the errors of [`make`](Self::make), and [`Error::Io`] if it does not exist.
    pub fn open(path: &Path, access: Access) -> Result<Self> {
        Self::walk(path, access, Made::Never)
    }

    fn walk(path: &Path, access: Access, made: Made) -> Result<Self> {
        let (fd, path) = walk(path, access, made)?;
        Ok(Self { fd, path, access })
    }

    /// The path of the folder, without links.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Checks again that the path leads to this folder, and that no other user can change that.
    ///
    /// # Errors
    ///
    /// Returns the errors of [`make`](Self::make), and [`Error::Unsafe`] if another folder is there now.
    pub fn check(&self) -> Result<()> {
        let now = Self::open(&self.path, self.access)?;
        let stat = |folder: &Self| {
            rustix::fs::fstat(&folder.fd).map_err(|e| failed("look at", &self.path)(e.into()))
        };
        let (was, is) = (stat(self)?, stat(&now)?);
        if (was.st_dev, was.st_ino) == (is.st_dev, is.st_ino) {
            return Ok(());
        }
        let problem = "was replaced while it was in use: start the program again".into();
        Err(Error::Unsafe { path: self.path.clone(), problem })
    }

    /// The plain files of the folder, in no order. Links are left out, and so are files whose names are
    /// not UTF-8 or that are gone meanwhile.
    ///
    /// # Errors
    ///
    /// [`Error::Io`] if the folder cannot be read.
    pub fn files(&self) -> Result<Vec<FoundFile>> {
        let fail = |errno: Errno| failed("list", &self.path)(errno.into());
        let mut files = Vec::new();
        // The descriptor of the folder may be of a kind that cannot be read.
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let fd = rustix::fs::openat(&self.fd, ".", flags, Mode::empty()).map_err(fail)?;
        for entry in Dir::new(fd).map_err(fail)? {
            let entry = entry.map_err(fail)?;
            let Ok(name) = entry.file_name().to_str() else { continue };
            let found = rustix::fs::statat(&self.fd, name, AtFlags::SYMLINK_NOFOLLOW);
            let Some(stat) = found.ok().filter(is_plain) else { continue };
            let seconds = u64::try_from(stat.st_mtime).unwrap_or_default();
            let modified = SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
            let len = u64::try_from(stat.st_size).unwrap_or_default();
            files.push(FoundFile { name: name.to_owned(), len, modified });
        }
        Ok(files)
    }

    /// Opens a file of the folder to read; `None` if there is none.
    ///
    /// # Errors
    ///
    /// [`Error::Unsafe`] if it is no plain file, belongs to another user, can be written by
    /// others, or has other names, by which others may have put it there.
    pub fn open_file(&self, name: &str) -> Result<Option<File>> {
        self.open_checked(name, OFlags::RDONLY)
    }

    /// Opens a file of the folder to read and write; `None` if there is none.
    ///
    /// # Errors
    ///
    /// Returns the errors of [`open_file`](Self::open_file).
    pub fn open_file_to_write(&self, name: &str) -> Result<Option<File>> {
        self.open_checked(name, OFlags::RDWR)
    }

    /// Reads a file of the folder; `None` if there is none.
    ///
    /// # Errors
    ///
    /// Returns the errors of [`open_file`](Self::open_file).
    pub fn read(&self, name: &str) -> Result<Option<Vec<u8>>> {
        let Some(mut file) = self.open_file(name)? else { return Ok(None) };
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes).map_err(failed("read", &self.path.join(name)))?;
        Ok(Some(bytes))
    }

    fn open_checked(&self, name: &str, flags: OFlags) -> Result<Option<File>> {
        let path = self.path.join(name);
        // A pipe in its place must not block.
        let flags = flags | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY;
        let fd = match rustix::fs::openat(&self.fd, name, flags, Mode::empty()) {
            Ok(fd) => fd,
            Err(Errno::NOENT) => return Ok(None),
            Err(Errno::LOOP | Errno::MLINK) => {
                let problem = "is a link, and not a plain file: delete it".into();
                return Err(Error::Unsafe { path, problem });
            }
            Err(errno) => return Err(failed("open", &path)(errno.into())),
        };
        let stat = rustix::fs::fstat(&fd).map_err(|e| failed("look at", &path)(e.into()))?;
        match file_problem(&stat) {
            Some(problem) => Err(Error::Unsafe { path, problem }),
            None => Ok(Some(File::from(fd))),
        }
    }

    /// Creates a file that must not exist yet, with this mode.
    ///
    /// # Errors
    ///
    /// [`Error::Io`], of the kind `AlreadyExists` if anything has the name, even a link that
    /// leads nowhere.
    pub fn create_file(&self, name: &str, mode: u32) -> Result<File> {
        let flags =
            OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let mode = Mode::from_raw_mode(mode as rustix::fs::RawMode);
        let opened = rustix::fs::openat(&self.fd, name, flags, mode);
        opened.map(File::from).map_err(|e| failed("create", &self.path.join(name))(e.into()))
    }

    /// Creates a file, and replaces any file or link of that name.
    ///
    /// # Errors
    ///
    /// Returns the errors of [`create_file`](Self::create_file), if another process was faster.
    pub fn create_file_anew(&self, name: &str, mode: u32) -> Result<File> {
        self.remove_file(name)?;
        self.create_file(name, mode)
    }

    /// Removes a file or a link, if it is there.
    ///
    /// # Errors
    ///
    /// [`Error::Io`] if it is there and cannot be removed.
    pub fn remove_file(&self, name: &str) -> Result<()> {
        match rustix::fs::unlinkat(&self.fd, name, AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => Ok(()),
            Err(errno) => Err(failed("remove", &self.path.join(name))(errno.into())),
        }
    }

    /// Writes a file aside and renames it, so that others see it whole or not at all.
    ///
    /// # Errors
    ///
    /// [`Error::Io`] if the system refuses.
    pub fn replace(&self, name: &str, parts: &[&[u8]], mode: u32) -> Result<()> {
        let (temporary, mut file) = self.create_temporary(mode)?;
        // Held while this process lives; a file system without locks does without.
        _ = file.try_lock();
        let written = parts.iter().try_for_each(|part| file.write_all(part));
        let done =
            written.and_then(|()| Ok(rustix::fs::renameat(&self.fd, &*temporary, &self.fd, name)?));
        done.map_err(|error| {
            _ = self.remove_file(&temporary);
            failed("write", &self.path.join(name))(error)
        })
    }

    /// Whether [`replace`](Self::replace) has begun this file and its process ended before it was renamed. False
    /// where that is not known: without locks, and for files of the last seconds.
    pub fn is_abandoned(&self, file: &FoundFile) -> bool {
        let age = SystemTime::now().duration_since(file.modified).unwrap_or_default();
        crate::is_temporary(&file.name)
            && age > crate::BEGINNING
            && matches!(self.open_file(&file.name), Ok(Some(found)) if found.try_lock().is_ok())
    }

    fn create_temporary(&self, mode: u32) -> Result<(String, File)> {
        for _ in 1..ATTEMPTS {
            let name = temporary_name();
            match self.create_file(&name, mode) {
                Err(Error::Io { source, .. }) if source.kind() == io::ErrorKind::AlreadyExists => {}
                made => return made.map(|file| (name, file)),
            }
        }
        let name = temporary_name();
        self.create_file(&name, mode).map(|file| (name, file))
    }
}

/// Whether an open file belongs to root, to the user who runs this, or to the owner of `folder`,
/// who decides what is in it anyway.
pub fn has_trusted_owner(file: &File, folder: &Path) -> bool {
    let owner = |stat: rustix::io::Result<Stat>| stat.ok().map(|stat| stat.st_uid);
    let Some(found) = owner(rustix::fs::fstat(file)) else { return false };
    let above = owner(rustix::fs::stat(folder));
    found == 0 || found == geteuid().as_raw() || above == Some(found)
}

/// Whether users other than its owner may write to an open file.
pub fn others_may_write(file: &File) -> bool {
    rustix::fs::fstat(file).map_or(true, |stat| stat.st_mode & 0o022 != 0)
}

/// Creates a file that must not exist yet, to be read by all who may read the folder.
///
/// # Errors
///
/// An error of the kind `AlreadyExists` if anything has the name, even a link that leads nowhere.
pub fn create_new(path: &Path) -> io::Result<File> {
    use std::os::unix::fs::OpenOptionsExt as _;

    File::options().write(true).create_new(true).mode(0o644).open(path)
}

/// A number of the user, for names of files: no two users have the same.
pub fn user() -> u32 {
    geteuid().as_raw()
}

/// Bytes that the user may still write to the disk of a folder, if the system knows.
pub fn free_space(folder: &Path) -> Option<u64> {
    let found = rustix::fs::statvfs(folder).ok().filter(|found| found.f_blocks > 0)?;
    Some(found.f_bavail.saturating_mul(found.f_frsize))
}

/// What is wrong with a file that is ours alone, if anything is.
fn file_problem(stat: &Stat) -> Option<String> {
    let (owner, me) = (stat.st_uid, geteuid().as_raw());
    let mode = stat.st_mode & 0o7777;
    let links = stat.st_nlink;
    if !is_plain(stat) {
        Some("is not a plain file, as it should be: delete it".into())
    } else if owner != me {
        Some(format!("belongs to user {owner}, and not to user {me}, who runs this: delete it"))
    } else if mode & 0o022 != 0 {
        Some(format!("can be written by others (mode {mode:04o}): delete it, or run chmod go-w"))
    } else if links > 1 {
        // None at all if another process has just replaced it.
        Some(format!("has {links} names, by which others may change it: delete it"))
    } else {
        None
    }
}

fn is_plain(stat: &Stat) -> bool {
    FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile
}

//! Folders by path, where the system has no owners and modes.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use crate::{Access, FoundFile, Result, failed, temporary_name};

/// A folder, assumed to be changed by this user alone.
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
    path: PathBuf,
}

impl Folder {
    /// Opens a folder, and makes it and those above it that are missing.
    ///
    /// # Errors
    ///
    /// [`Error::Io`](crate::Error::Io) if the system refuses.
    pub fn make(path: &Path, access: Access) -> Result<Self> {
        fs::create_dir_all(path).map_err(failed("create", path))?;
        Self::open(path, access)
    }

    /// Opens a folder that exists.
    ///
    /// # Errors
    ///
    /// [`Error::Io`](crate::Error::Io) if it is not.
    pub fn open(path: &Path, _: Access) -> Result<Self> {
        let path = path.canonicalize().map_err(failed("find", path))?;
        Ok(Self { path })
    }

    /// The path of the folder, without links.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Does nothing here.
    ///
    /// # Errors
    ///
    /// None.
    pub fn check(&self) -> Result<()> {
        Ok(())
    }

    /// The plain files of the folder, in no order. Those whose names are not UTF-8 or that are gone
    /// meanwhile are left out.
    ///
    /// # Errors
    ///
    /// [`Error::Io`](crate::Error::Io) if the folder cannot be read.
    pub fn files(&self) -> Result<Vec<FoundFile>> {
        let mut files = Vec::new();
        for entry in fs::read_dir(&self.path).map_err(failed("list", &self.path))? {
            let entry = entry.map_err(failed("list", &self.path))?;
            let Ok(name) = entry.file_name().into_string() else { continue };
            let Some(found) = entry.metadata().ok().filter(fs::Metadata::is_file) else { continue };
            let modified = found.modified().unwrap_or(SystemTime::UNIX_EPOCH);
            files.push(FoundFile { name, len: found.len(), modified });
        }
        Ok(files)
    }

    /// Opens a file of the folder to read; `None` if there is none.
    ///
    /// # Errors
    ///
    /// [`Error::Io`](crate::Error::Io) if the system refuses.
    pub fn open_file(&self, name: &str) -> Result<Option<File>> {
        self.opened(name, File::options().read(true))
    }

    /// Opens a file of the folder to read and write; `None` if there is none.
    ///
    /// # Errors
    ///
    /// [`Error::Io`](crate::Error::Io) if the system refuses.
    pub fn open_file_to_write(&self, name: &str) -> Result<Option<File>> {
        self.opened(name, File::options().read(true).write(true))
    }

    fn opened(&self, name: &str, options: &fs::OpenOptions) -> Result<Option<File>> {
        let path = self.path.join(name);
        match options.open(&path) {
            Ok(file) => Ok(Some(file)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(failed("open", &path)(error)),
        }
    }

    /// Reads a file of the folder; `None` if there is none.
    ///
    /// # Errors
    ///
    /// [`Error::Io`](crate::Error::Io) if the system refuses.
    pub fn read(&self, name: &str) -> Result<Option<Vec<u8>>> {
        let path = self.path.join(name);
        match fs::read(&path) {
            Ok(bytes) => Ok(Some(bytes)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(failed("read", &path)(error)),
        }
    }

    /// Creates a file that must not exist yet.
    ///
    /// # Errors
    ///
    /// [`Error::Io`](crate::Error::Io) if it is there.
    pub fn create_file(&self, name: &str, _mode: u32) -> Result<File> {
        let path = self.path.join(name);
        let made = File::options().read(true).write(true).create_new(true).open(&path);
        made.map_err(failed("create", &path))
    }

    /// Creates a file, and replaces any file or link of that name.
    ///
    /// # Errors
    ///
    /// [`Error::Io`](crate::Error::Io) if the system refuses.
    pub fn create_file_anew(&self, name: &str, mode: u32) -> Result<File> {
        self.remove_file(name)?;
        self.create_file(name, mode)
    }

    /// Removes a file or a link, if it is there.
    ///
    /// # Errors
    ///
    /// [`Error::Io`](crate::Error::Io) if it is there and cannot be removed.
    pub fn remove_file(&self, name: &str) -> Result<()> {
        let path = self.path.join(name);
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(failed("remove", &path)(error))
            }
            _ => Ok(()),
        }
    }

    /// Writes a file aside and renames it, so that others see it whole or not at all.
    ///
    /// # Errors
    ///
    /// [`Error::Io`](crate::Error::Io) if the system refuses.
    pub fn replace(&self, name: &str, parts: &[&[u8]], mode: u32) -> Result<()> {
        let temporary = temporary_name();
        let mut file = self.create_file(&temporary, mode)?;
        let written = parts.iter().try_for_each(|part| file.write_all(part));
        drop(file);
        let path = self.path.join(name);
        let done = written.and_then(|()| fs::rename(self.path.join(&temporary), &path));
        done.map_err(|error| {
            _ = self.remove_file(&temporary);
            failed("write", &path)(error)
        })
    }

    /// Whether [`replace`](Self::replace) has begun this file and its process ended before it was renamed: never
    /// known here.
    pub fn is_abandoned(&self, _: &FoundFile) -> bool {
        false
    }
}

/// Always true here.
pub fn has_trusted_owner(_: &File, _: &Path) -> bool {
    true
}

/// Always false here.
pub fn others_may_write(_: &File) -> bool {
    false
}

/// Creates a file that must not exist yet.
///
/// # Errors
///
/// An error of the kind `AlreadyExists` if it is there.
pub fn create_new(path: &Path) -> io::Result<File> {
    File::options().write(true).create_new(true).open(path)
}

/// Always 0 here.
pub fn user() -> u32 {
    0
}

/// Not known here.
pub fn free_space(_: &Path) -> Option<u64> {
    None
}

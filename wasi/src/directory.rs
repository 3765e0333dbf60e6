//! Directories and files of the host, as guests see them.
//!
//! `cap-std` resolves paths, and refuses those that leave the directory: through `..`, from the root,
//! or by symbolic links. What is added here: directories that are read only, which wasi-common does not
//! know, times that it cannot show, and waiting for pipes and devices, which ends when the guest should stop.

use std::any::Any;
use std::io::{IoSlice, IoSliceMut, SeekFrom};
use std::path::PathBuf;
use std::time::SystemTime;

use wasi_common::dir::{OpenResult, ReaddirCursor, ReaddirEntity};
use wasi_common::file::{Advice, FdFlags, FileType, Filestat, OFlags};
use wasi_common::snapshots::preview_1::types::Errno;
use wasi_common::sync::dir as host;
use wasi_common::sync::file::File as HostFile;
use wasi_common::{Error, SystemTimeSpec, WasiDir, WasiFile};

use crate::access::Access;
use crate::open::{self, How, Opened};
use crate::stop::Stop;
use crate::wait::{self, Ready};

pub(crate) struct Directory {
    inner: host::Dir,
    /// The same directory, for opening what is in it.
    open: cap_std::fs::Dir,
    access: Access,
    stop: Stop,
}

/// A file that is opened by a path in a [`Directory`], with what may be done there.
pub(crate) struct File {
    inner: HostFile,
    access: Access,
    /// Set for a pipe or a device, which never waits by itself: what ends waiting for it.
    waits: Option<Stop>,
    /// The guest does not want to wait.
    at_once: bool,
}

impl Directory {
    pub(crate) fn new(
        directory: cap_std::fs::Dir,
        access: Access,
        stop: Stop,
    ) -> std::io::Result<Self> {
        let open = directory.try_clone()?;
        Ok(Self { inner: host::Dir::from_cap_std(directory), open, access, stop })
    }

    /// Another directory, if both may be changed.
    fn other<'a>(&self, other: &'a dyn WasiDir) -> Result<&'a Self, Error> {
        let other = other.as_any().downcast_ref::<Self>().ok_or(Errno::Badf)?;
        may_write(self.access)?;
        may_write(other.access)?;
        Ok(other)
    }
}

impl File {
    pub(crate) fn read_only(file: std::fs::File) -> Self {
        let inner = HostFile::from_cap_std(cap_std::fs::File::from_std(file));
        Self { inner, access: Access::ReadOnly, waits: None, at_once: false }
    }

    /// Waits until a pipe or a device can be read or written, unless the guest does not want to.
    fn wait(&self, until: Ready) -> Result<(), Error> {
        match &self.waits {
            Some(stop) if !self.at_once => wait::until(&self.inner, until, stop),
            _ => Ok(()),
        }
    }

    /// Whether something failed because another process was faster, so that it has to wait again.
    fn again(&self, error: &Error) -> bool {
        let waits = self.waits.is_some() && !self.at_once;
        waits && matches!(error.downcast_ref(), Some(Errno::Again))
    }
}

#[wiggle::async_trait]
impl WasiDir for Directory {
    fn as_any(&self) -> &dyn Any {
        self
    }

    async fn open_file(
        &self,
        follow: bool,
        path: &str,
        create: OFlags,
        read: bool,
        write: bool,
        flags: FdFlags,
    ) -> Result<OpenResult, Error> {
        // Each of these has the host open a file for writing.
        let changes = OFlags::CREATE | OFlags::EXCLUSIVE | OFlags::TRUNCATE;
        if write || create.intersects(changes) || flags.contains(FdFlags::APPEND) {
            may_write(self.access)?;
        }
        let access = self.access;
        let how = How { follow, create, read, write, flags };
        Ok(match open::open(&self.open, path, how)? {
            Opened::File(file, waits) => {
                let inner = HostFile::from_cap_std(file);
                let waits = waits.then(|| self.stop.clone());
                let at_once = flags.contains(FdFlags::NONBLOCK);
                OpenResult::File(Box::new(File { inner, access, waits, at_once }))
            }
            Opened::Directory(below) => {
                OpenResult::Dir(Box::new(Self::new(below, access, self.stop.clone())?))
            }
        })
    }

    async fn create_dir(&self, path: &str) -> Result<(), Error> {
        may_write(self.access)?;
        self.inner.create_dir(path).await
    }

    async fn readdir(
        &self,
        from: ReaddirCursor,
    ) -> Result<Box<dyn Iterator<Item = Result<ReaddirEntity, Error>> + Send>, Error> {
        self.inner.readdir(from).await
    }

    async fn symlink(&self, to: &str, path: &str) -> Result<(), Error> {
        may_write(self.access)?;
        self.inner.symlink(to, path).await
    }

    async fn remove_dir(&self, path: &str) -> Result<(), Error> {
        may_write(self.access)?;
        self.inner.remove_dir(path).await
    }

    async fn unlink_file(&self, path: &str) -> Result<(), Error> {
        may_write(self.access)?;
        self.inner.unlink_file(path).await
    }

    async fn read_link(&self, path: &str) -> Result<PathBuf, Error> {
        self.inner.read_link(path).await
    }

    async fn get_filestat(&self) -> Result<Filestat, Error> {
        self.inner.get_filestat().await.map(shown)
    }

    async fn get_path_filestat(&self, path: &str, follow: bool) -> Result<Filestat, Error> {
        self.inner.get_path_filestat(path, follow).await.map(shown)
    }

    async fn rename(&self, from: &str, other: &dyn WasiDir, to: &str) -> Result<(), Error> {
        self.inner.rename_(from, &self.other(other)?.inner, to)
    }

    async fn hard_link(&self, from: &str, other: &dyn WasiDir, to: &str) -> Result<(), Error> {
        self.inner.hard_link_(from, &self.other(other)?.inner, to)
    }

    async fn set_times(
        &self,
        path: &str,
        accessed: Option<SystemTimeSpec>,
        modified: Option<SystemTimeSpec>,
        follow: bool,
    ) -> Result<(), Error> {
        may_write(self.access)?;
        self.inner.set_times(path, accessed, modified, follow).await
    }
}

#[wiggle::async_trait]
impl WasiFile for File {
    fn as_any(&self) -> &dyn Any {
        self
    }

    #[cfg(unix)]
    fn pollable(&self) -> Option<rustix::fd::BorrowedFd<'_>> {
        self.inner.pollable()
    }

    fn isatty(&self) -> bool {
        self.inner.isatty()
    }

    async fn get_filetype(&self) -> Result<FileType, Error> {
        self.inner.get_filetype().await
    }

    async fn datasync(&self) -> Result<(), Error> {
        self.inner.datasync().await
    }

    async fn sync(&self) -> Result<(), Error> {
        self.inner.sync().await
    }

    async fn get_fdflags(&self) -> Result<FdFlags, Error> {
        let mut flags = self.inner.get_fdflags().await?;
        flags.set(FdFlags::NONBLOCK, self.at_once);
        Ok(flags)
    }

    async fn set_fdflags(&mut self, flags: FdFlags) -> Result<(), Error> {
        let never_waits = if self.waits.is_some() { FdFlags::NONBLOCK } else { FdFlags::empty() };
        self.inner.set_fdflags(flags | never_waits).await?;
        self.at_once = flags.contains(FdFlags::NONBLOCK);
        Ok(())
    }

    async fn get_filestat(&self) -> Result<Filestat, Error> {
        self.inner.get_filestat().await.map(shown)
    }

    async fn set_filestat_size(&self, size: u64) -> Result<(), Error> {
        may_write(self.access)?;
        self.inner.set_filestat_size(size).await
    }

    async fn advise(&self, offset: u64, len: u64, advice: Advice) -> Result<(), Error> {
        self.inner.advise(offset, len, advice).await
    }

    /// A file's owner may change its times without being allowed to write to it.
    async fn set_times(
        &self,
        accessed: Option<SystemTimeSpec>,
        modified: Option<SystemTimeSpec>,
    ) -> Result<(), Error> {
        may_write(self.access)?;
        self.inner.set_times(accessed, modified).await
    }

    async fn read_vectored<'a>(&self, into: &mut [IoSliceMut<'a>]) -> Result<u64, Error> {
        loop {
            self.wait(Ready::ToRead)?;
            match self.inner.read_vectored(into).await {
                Err(error) if self.again(&error) => wait::a_moment(),
                done => return done,
            }
        }
    }

    async fn read_vectored_at<'a>(
        &self,
        into: &mut [IoSliceMut<'a>],
        offset: u64,
    ) -> Result<u64, Error> {
        self.inner.read_vectored_at(into, offset).await
    }

    async fn write_vectored<'a>(&self, from: &[IoSlice<'a>]) -> Result<u64, Error> {
        loop {
            self.wait(Ready::ToWrite)?;
            match self.inner.write_vectored(from).await {
                Err(error) if self.again(&error) => wait::a_moment(),
                done => return done,
            }
        }
    }

    async fn write_vectored_at<'a>(&self, from: &[IoSlice<'a>], offset: u64) -> Result<u64, Error> {
        self.inner.write_vectored_at(from, offset).await
    }

    async fn seek(&self, to: SeekFrom) -> Result<u64, Error> {
        self.inner.seek(to).await
    }

    async fn peek(&self, into: &mut [u8]) -> Result<u64, Error> {
        self.inner.peek(into).await
    }

    fn num_ready_bytes(&self) -> Result<u64, Error> {
        self.inner.num_ready_bytes()
    }
}

fn may_write(access: Access) -> Result<(), Error> {
    if access.may_write() { Ok(()) } else { Err(Errno::Rofs.into()) }
}

/// What WASI can say of a file: times before 1970, which it has no numbers for, become 1970.
fn shown(mut stat: Filestat) -> Filestat {
    for time in [&mut stat.atim, &mut stat.mtim, &mut stat.ctim] {
        *time = time.map(|time| time.max(SystemTime::UNIX_EPOCH));
    }
    stat
}

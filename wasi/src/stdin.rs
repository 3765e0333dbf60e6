//! The standard input of this process, for guests that may be stopped while they wait for it.

use std::any::Any;
use std::io::{IoSliceMut, SeekFrom};
use std::os::fd::AsFd as _;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::io::Errno as HostErrno;
use wasi_common::file::FileType;
use wasi_common::snapshots::preview_1::types::Errno;
use wasi_common::sync::stdio;
use wasi_common::{Error, WasiFile};

use crate::stop::Stop;

/// How often a guest that waits for input looks whether it should stop.
const LOOK: Duration = Duration::from_millis(10);

/// Reads without the buffer of the standard library: no system call waits for what is in a buffer.
pub(crate) struct Stdin {
    inner: stdio::Stdin,
    stop: Stop,
}

impl Stdin {
    pub(crate) fn new(stop: Stop) -> Self {
        Self { inner: stdio::stdin(), stop }
    }

    /// Waits until there is something to read, or the guest should stop.
    fn wait(&self) -> Result<(), Error> {
        let pause = Timespec::try_from(LOOK).map_err(|_| Errno::Overflow)?;
        let stdin = std::io::stdin();
        while !self.stop.is_asked_for() {
            let mut asked = [PollFd::from_borrowed_fd(stdin.as_fd(), PollFlags::IN)];
            match rustix::event::poll(&mut asked, Some(&pause)) {
                Ok(0) | Err(HostErrno::INTR) => {}
                Ok(_) => return Ok(()),
                Err(error) => return Err(std::io::Error::from(error).into()),
            }
        }
        Err(Errno::Intr.into())
    }
}

#[wiggle::async_trait]
impl WasiFile for Stdin {
    fn as_any(&self) -> &dyn Any {
        self
    }

    fn pollable(&self) -> Option<rustix::fd::BorrowedFd<'_>> {
        self.inner.pollable()
    }

    fn isatty(&self) -> bool {
        self.inner.isatty()
    }

    async fn get_filetype(&self) -> Result<FileType, Error> {
        self.inner.get_filetype().await
    }

    async fn read_vectored<'a>(&self, into: &mut [IoSliceMut<'a>]) -> Result<u64, Error> {
        self.wait()?;
        let stdin = std::io::stdin();
        let read = rustix::io::readv(stdin.as_fd(), into).map_err(std::io::Error::from)?;
        Ok(read as u64)
    }

    async fn seek(&self, _to: SeekFrom) -> Result<u64, Error> {
        Err(Errno::Spipe.into())
    }
}

//! The standard input of this process, for guests that may be stopped while they wait for it.

use std::any::Any;
use std::io::{IoSliceMut, SeekFrom};
use std::os::fd::AsFd as _;

use wasi_common::file::FileType;
use wasi_common::snapshots::preview_1::types::Errno;
use wasi_common::sync::stdio;
use wasi_common::{Error, WasiFile};

use crate::stop::Stop;
use crate::wait::{self, Ready};

/// Reads without the buffer of the standard library: no system call waits for what is in a buffer.
pub(crate) struct Stdin {
    inner: stdio::Stdin,
    stop: Stop,
}

impl Stdin {
    pub(crate) fn new(stop: Stop) -> Self {
        Self { inner: stdio::stdin(), stop }
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
        wait::until(&self.inner, Ready::ToRead, &self.stop)?;
        let stdin = std::io::stdin();
        let read = rustix::io::readv(stdin.as_fd(), into).map_err(std::io::Error::from)?;
        Ok(read as u64)
    }

    async fn seek(&self, _to: SeekFrom) -> Result<u64, Error> {
        Err(Errno::Spipe.into())
    }
}

//! Standard input, output and error of a guest.

use std::any::Any;
use std::fmt;
use std::io::{self, IoSlice, IoSliceMut, Read, Write};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use wasi_common::file::{FdFlags, FileType};
use wasi_common::snapshots::preview_1::types::Errno;
use wasi_common::{Error, WasiFile};

/// Where a guest's standard input comes from.
///
/// ```
/// use polychord_wasi::{Input, WasiBuilder};
///
/// let wasi = WasiBuilder::new().stdin(Input::bytes("two\nlines\n")).build()?;
/// # Ok::<(), polychord_wasi::Error>(())
/// ```
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub enum Input {
    /// It ends at once.
    #[default]
    Empty,
    /// These bytes.
    Bytes(Vec<u8>),
    /// A file of the host, which the guest may only read.
    File(PathBuf),
    /// That of this process.
    Inherited,
}

/// Where a guest's standard output or standard error goes.
///
/// ```
/// use polychord_wasi::{Output, WasiBuilder};
///
/// let wasi = WasiBuilder::new().stdout(Output::Captured).stderr(Output::Inherited).build()?;
/// assert!(wasi.stdout().is_empty());
/// # Ok::<(), polychord_wasi::Error>(())
/// ```
#[derive(Default)]
#[non_exhaustive]
pub enum Output {
    /// Nowhere.
    #[default]
    Discarded,
    /// Kept, up to [`WasiBuilder::captured_bytes`](crate::WasiBuilder::captured_bytes), for
    /// [`Wasi::stdout`](crate::Wasi::stdout) and [`Wasi::stderr`](crate::Wasi::stderr).
    Captured,
    /// To that of this process.
    Inherited,
    /// To a writer of one's own, which is flushed when the guest asks for that (`fd_sync`).
    Writer(Box<dyn Write + Send>),
}

/// What a guest has written, and the most that is kept.
#[derive(Clone, Debug)]
pub(crate) struct Captured {
    bytes: Arc<Mutex<Vec<u8>>>,
    most: usize,
}

/// A stream that the guest reads.
pub(crate) struct Reader(Mutex<Box<dyn Read + Send>>);

/// A stream that the guest writes.
pub(crate) struct Writer(Mutex<Box<dyn Write + Send>>);

impl Input {
    /// Bytes, or text.
    #[must_use]
    pub fn bytes(bytes: impl Into<Vec<u8>>) -> Self {
        Self::Bytes(bytes.into())
    }

    /// A file of the host.
    #[must_use]
    pub fn file(path: impl Into<PathBuf>) -> Self {
        Self::File(path.into())
    }
}

impl Output {
    /// A writer of one's own.
    #[must_use]
    pub fn writer(writer: impl Write + Send + 'static) -> Self {
        Self::Writer(Box::new(writer))
    }
}

impl fmt::Debug for Output {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Discarded => "Discarded",
            Self::Captured => "Captured",
            Self::Inherited => "Inherited",
            Self::Writer(_) => "Writer",
        })
    }
}

impl Captured {
    pub(crate) fn new(most: usize) -> Self {
        Self { bytes: Arc::default(), most }
    }

    pub(crate) fn bytes(&self) -> Vec<u8> {
        lock(&self.bytes).clone()
    }

    pub(crate) fn take(&self) -> Vec<u8> {
        std::mem::take(&mut lock(&self.bytes))
    }
}

impl Write for Captured {
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        let mut bytes = lock(&self.bytes);
        let room = self.most - bytes.len().min(self.most);
        let taken = &data[..data.len().min(room)];
        if taken.is_empty() && !data.is_empty() {
            return Err(io::ErrorKind::StorageFull.into());
        }
        bytes.extend_from_slice(taken);
        Ok(taken.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Reader {
    pub(crate) fn new(reader: impl Read + Send + 'static) -> Self {
        Self(Mutex::new(Box::new(reader)))
    }
}

impl Writer {
    pub(crate) fn new(writer: Box<dyn Write + Send>) -> Self {
        Self(Mutex::new(writer))
    }

    fn flush(&self) -> Result<(), Error> {
        lock(&self.0).flush().map_err(|error| errno(&error))
    }
}

#[wiggle::async_trait]
impl WasiFile for Reader {
    fn as_any(&self) -> &dyn Any {
        self
    }

    async fn get_filetype(&self) -> Result<FileType, Error> {
        Ok(FileType::Pipe)
    }

    async fn read_vectored<'a>(&self, into: &mut [IoSliceMut<'a>]) -> Result<u64, Error> {
        let read = lock(&self.0).read_vectored(into).map_err(|error| errno(&error))?;
        Ok(read as u64)
    }

    async fn seek(&self, _to: io::SeekFrom) -> Result<u64, Error> {
        Err(Errno::Spipe.into())
    }
}

#[wiggle::async_trait]
impl WasiFile for Writer {
    fn as_any(&self) -> &dyn Any {
        self
    }

    async fn get_filetype(&self) -> Result<FileType, Error> {
        Ok(FileType::Pipe)
    }

    async fn get_fdflags(&self) -> Result<FdFlags, Error> {
        Ok(FdFlags::APPEND)
    }

    async fn write_vectored<'a>(&self, from: &[IoSlice<'a>]) -> Result<u64, Error> {
        let written = lock(&self.0).write_vectored(from).map_err(|error| errno(&error))?;
        Ok(written as u64)
    }

    async fn seek(&self, _to: io::SeekFrom) -> Result<u64, Error> {
        Err(Errno::Spipe.into())
    }

    async fn datasync(&self) -> Result<(), Error> {
        self.flush()
    }

    async fn sync(&self) -> Result<(), Error> {
        self.flush()
    }
}

/// An error of a stream of the host's. One that has no number is an error of input and output.
fn errno(error: &io::Error) -> Error {
    match error.kind() {
        io::ErrorKind::StorageFull => Errno::Nospc,
        io::ErrorKind::BrokenPipe => Errno::Pipe,
        io::ErrorKind::Interrupted => Errno::Intr,
        io::ErrorKind::WouldBlock => Errno::Again,
        _ => Errno::Io,
    }
    .into()
}

/// What is behind a lock is whole whatever panicked while holding it.
fn lock<T: ?Sized>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

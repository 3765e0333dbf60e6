//! Where the bytes of layers come from: files, memory, a compressed store, or several of these.

mod regular;

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use polychord_plan::LayerHash;

use crate::layers::compressed::CompressedStore;
use crate::layers::ranges::ByteRanges;
use crate::{Error, Result};

/// Where the bytes of layers come from: a file, bytes in memory, or those that were in the layers
/// before. Cheap to clone.
///
/// ```
/// use polychord_runtime_api::Source;
///
/// let source = Source::from_bytes(vec![1, 2, 3, 4]);
/// let mut bytes = [0; 2];
/// source.read_at(1, &mut bytes)?;
/// assert_eq!((source.len(), bytes), (4, [2, 3]));
/// # Ok::<(), polychord_runtime_api::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct Source(Arc<Kind>, Option<Arc<Hashes>>);

/// SHA-256 of ranges, by their first byte and their length.
type Hashes = BTreeMap<(u64, u64), LayerHash>;

#[derive(Debug)]
enum Kind {
    File {
        file: File,
        path: PathBuf,
        len: u64,
        mapped: bool,
    },
    Bytes(Vec<u8>),
    Anonymous(CompressedStore),
    Ranges(Box<dyn ByteRanges>),
    /// Where each part begins; in order.
    Parts(Vec<(u64, Source)>),
    /// Twos of which only some can be read, as of a disk that fails.
    #[cfg(test)]
    Broken {
        len: u64,
        whole: usize,
    },
}

impl Source {
    /// A file whose layers are copied into guests. Nothing is read yet.
    ///
    /// # Errors
    ///
    /// [`Error::Io`] if the file cannot be opened, and [`Error::NotAFile`] for a directory, a pipe
    /// or a device, none of which is waited for.
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        Self::open_file(path.as_ref(), false)
    }

    /// A file whose pages are mapped into guests where that is possible, copy-on-write: a
    /// guest that writes to them changes neither the file nor another guest.
    ///
    /// # Errors
    ///
    /// Returns the errors of [`open`](Self::open).
    ///
    /// # Safety
    ///
    /// As long as a guest with a layer of this source lives, no process may write to the file: the
    /// memory of the guest would change under it. Nor may any truncate it, other than on
    /// Linux, where pages that are lost read as zeros and the call that could have used them
    /// ends with [`Error::Truncated`]; elsewhere an access would end the process (SIGBUS).
    #[allow(unsafe_code, reason = "the contract is the caller's")]
    pub unsafe fn open_mapped(path: impl AsRef<Path>) -> Result<Self> {
        Self::open_file(path.as_ref(), true)
    }

    /// Bytes in memory; they are always copied.
    #[must_use]
    pub fn from_bytes(bytes: Vec<u8>) -> Self {
        Self::of(Kind::Bytes(bytes))
    }

    /// Bytes that are somewhere else, such as on a server; they are always copied.
    #[must_use]
    pub fn from_ranges(ranges: impl ByteRanges + 'static) -> Self {
        Self::of(Kind::Ranges(Box::new(ranges)))
    }

    /// Several sources as one, as a model that is split over several files: each with the byte at
    /// which it begins. What is between them has no bytes. A layer that lies in one of them is
    /// mapped or copied from there as if it had been given alone.
    ///
    /// ```
    /// use polychord_runtime_api::Source;
    ///
    /// let [first, second] = [vec![1; 100], vec![2; 100]].map(Source::from_bytes);
    /// let both = Source::joined([(0, first), (65_536, second)])?;
    /// let mut byte = [0];
    /// both.read_at(65_540, &mut byte)?;
    /// assert_eq!((both.len(), byte), (65_636, [2]));
    /// # Ok::<(), polychord_runtime_api::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// [`Error::OutOfRange`] if one begins before the end of the one before it, or ends beyond 64
    /// bits.
    pub fn joined(parts: impl IntoIterator<Item = (u64, Self)>) -> Result<Self> {
        let parts: Vec<_> = parts.into_iter().collect();
        let mut end = 0;
        for (offset, part) in &parts {
            let (offset, len) = (*offset, part.len());
            let next = offset.checked_add(len).filter(|_| offset >= end);
            let operation = "join a source behind others";
            end = next.ok_or(Error::OutOfRange { operation, offset, len, size: end })?;
        }
        Ok(Self::of(Kind::Parts(parts)))
    }

    /// The source with the SHA-256 of ranges, each a first byte and a length. A layer that is one of them is
    /// compared each time that it is loaded, and refused if it has other bytes.
    ///
    /// ```
    /// use polychord_runtime_api::Source;
    /// use polychord_runtime_api::plan::LayerHash;
    ///
    /// let source = Source::from_bytes(vec![0; 100]);
    /// // A layer of these ten bytes is not loaded: they have another hash.
    /// let source = source.expecting([((0, 10), LayerHash([0; 32]))]);
    /// # let _ = source;
    /// ```
    #[must_use]
    pub fn expecting(&self, hashes: impl IntoIterator<Item = ((u64, u64), LayerHash)>) -> Self {
        let mut all = self.1.as_deref().cloned().unwrap_or_default();
        all.extend(hashes);
        Self(self.0.clone(), (!all.is_empty()).then(|| Arc::new(all)))
    }

    /// What the bytes of a range have to be.
    pub(crate) fn expected(&self, offset: u64, bytes: u64) -> Option<LayerHash> {
        self.1.as_ref()?.get(&(offset, bytes)).copied()
    }

    fn of(kind: Kind) -> Self {
        Self(Arc::new(kind), None)
    }

    /// The sources that it was [`joined`](Self::joined) from, with the byte at which each begins; of
    /// any other it is the only one.
    pub fn parts(&self) -> impl Iterator<Item = (u64, &Self)> {
        let (parts, alone) = match &*self.0 {
            Kind::Parts(parts) => (parts.as_slice(), None),
            _ => (&[][..], Some((0, self))),
        };
        parts.iter().map(|(start, part)| (*start, part)).chain(alone)
    }

    /// Whether it was joined from others.
    pub(crate) fn is_joined(&self) -> bool {
        matches!(&*self.0, Kind::Parts(_))
    }

    /// The part in which bytes lie, and where in it they begin. Those that no part has all of are
    /// in the whole.
    pub(crate) fn part_of(&self, offset: u64, len: u64) -> (&Self, u64) {
        let found = self.parts().find(|(start, part)| {
            let end = offset.checked_add(len);
            *start <= offset && end.is_some_and(|end| end <= start.saturating_add(part.len()))
        });
        found.map_or((self, offset), |(start, part)| (part, offset - start))
    }

    /// Bytes of which no more than `whole` are read before reading fails.
    #[cfg(test)]
    pub(crate) fn broken(len: u64, whole: usize) -> Self {
        Self::of(Kind::Broken { len, whole })
    }

    /// Bytes that no file has: zeros, until host or guest write to a layer of them. When such a layer is released, what was written is compressed (zstd) into memory of the host,
    /// of which all layers of this source and its clones together take at most `room` bytes, and
    /// loading the layer brings it back bit for bit. Bytes that nothing makes smaller are kept as
    /// they are, so a room of `bytes`, rounded up to 64 KiB, is always enough; without room,
    /// releasing the layer is refused, and the layer stays.
    ///
    /// Bytes are either in a layer or compressed: those of a loaded layer go with its guest, if
    /// it is not released before. No two loaded layers may have the same bytes: in one guest the
    /// second is refused, in several the caller sees to it; a second one has zeros.
    #[must_use]
    pub fn anonymous(bytes: u64, room: u64) -> Self {
        Self::of(Kind::Anonymous(CompressedStore::new(bytes, room)))
    }

    /// Memory of the host that compressed layers take now.
    #[must_use]
    pub fn compressed_bytes(&self) -> u64 {
        self.as_anonymous().map_or(0, CompressedStore::kept_bytes)
    }

    /// Length in bytes, as it was when the source was opened.
    #[must_use]
    pub fn len(&self) -> u64 {
        match &*self.0 {
            Kind::File { len, .. } => *len,
            Kind::Bytes(bytes) => bytes.len() as u64,
            Kind::Anonymous(anonymous) => anonymous.len(),
            Kind::Ranges(ranges) => ranges.len(),
            Kind::Parts(parts) => parts.last().map_or(0, |(start, part)| start + part.len()),
            #[cfg(test)]
            Kind::Broken { len, .. } => *len,
        }
    }

    /// True if there are no bytes.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether pages of a file may be mapped, and are not always copied.
    #[must_use]
    pub fn is_mapped(&self) -> bool {
        self.parts().all(|(_, part)| part.mapped_file().is_some())
    }

    /// Whether some of its bytes come by requests ([`from_ranges`](Self::from_ranges)), so that many small
    /// reads take long.
    #[must_use]
    pub fn is_remote(&self) -> bool {
        self.parts().any(|(_, part)| matches!(&*part.0, Kind::Ranges(_)))
    }

    /// Fills `out` from `offset` on, or leaves it as it is if the source ends before.
    ///
    /// # Errors
    ///
    /// [`Error::Truncated`] or [`Error::OutOfRange`] if the source ends before, [`Error::Io`] if
    /// reading fails, and [`Error::HostMemory`] if there is none to decompress.
    pub fn read_at(&self, offset: u64, out: &mut [u8]) -> Result<()> {
        match &*self.0 {
            Kind::File { file, path, .. } => {
                // The system would fill what it can before it finds the end.
                self.check_present(offset, out.len() as u64)?;
                read_exact_at(file, out, offset).map_err(|source| match source.kind() {
                    io::ErrorKind::UnexpectedEof => truncated(file, path, offset, out.len() as u64),
                    _ => Error::Io { operation: "read", path: path.clone(), source },
                })
            }
            Kind::Bytes(bytes) => {
                let start = usize::try_from(offset).ok();
                let range = start.and_then(|start| Some(start..start.checked_add(out.len())?));
                let Some(bytes) = range.and_then(|range| bytes.get(range)) else {
                    let (len, size) = (out.len() as u64, bytes.len() as u64);
                    return Err(Error::OutOfRange { operation: "read", offset, len, size });
                };
                out.copy_from_slice(bytes);
                Ok(())
            }
            Kind::Anonymous(anonymous) => anonymous.read(offset, out),
            Kind::Ranges(ranges) => {
                let (len, size) = (out.len() as u64, ranges.len());
                if offset.checked_add(len).is_none_or(|end| end > size) {
                    return Err(Error::OutOfRange { operation: "read", offset, len, size });
                }
                ranges.read_at(offset, out).map_err(|source| Error::Io {
                    operation: "read",
                    path: ranges.name().into(),
                    source,
                })
            }
            Kind::Parts(_) => {
                let (part, at) = self.part_of(offset, out.len() as u64);
                if !part.is_same(self) {
                    return part.read_at(at, out);
                }
                let (len, size) = (out.len() as u64, self.len());
                Err(Error::OutOfRange { operation: "read", offset, len, size })
            }
            #[cfg(test)]
            Kind::Broken { whole, .. } => {
                let whole = (*whole).min(out.len());
                out[..whole].fill(2);
                let source = io::Error::other("the disk is broken");
                Err(Error::Io { operation: "read", path: "broken".into(), source })
            }
        }
    }

    /// Reads the source from its start, independently of other readers. A file that has become
    /// shorter ends where it ends now.
    pub fn reader(&self) -> impl Read + '_ {
        SourceReader { source: self, at: 0 }
    }

    /// What keeps layers that no file has.
    pub(crate) fn as_anonymous(&self) -> Option<&CompressedStore> {
        match &*self.0 {
            Kind::Anonymous(anonymous) => Some(anonymous),
            _ => None,
        }
    }

    /// Asks the system to read bytes into its cache that will be needed soon, until it should
    /// stop. May wait for the disk.
    pub(crate) fn read_ahead(&self, offset: u64, len: u64, stop: &AtomicBool) {
        let (part, offset) = self.part_of(offset, len);
        let file = match &*part.0 {
            Kind::File { file, .. } => file,
            Kind::Ranges(ranges) => return ranges.read_ahead(offset, len, stop),
            _ => return,
        };
        let end = offset.saturating_add(len);
        let mut at = offset;
        // What is asked for at once beyond the system's own limit for a request is ignored.
        while at < end && !stop.load(Relaxed) {
            advise_will_need(file, at, AHEAD.min(end - at));
            at = at.saturating_add(AHEAD);
        }
    }

    /// Whether the system has bytes of a file in its cache, as far as samples of them show. False
    /// if it does not tell.
    pub(crate) fn is_cached(&self, offset: u64, len: u64) -> bool {
        let (part, offset) = self.part_of(offset, len);
        let Kind::File { file, .. } = &*part.0 else { return false };
        let Some(last) = len.checked_sub(1).and_then(|len| offset.checked_add(len)) else {
            return false;
        };
        let step = usize::try_from(SAMPLE).unwrap_or(usize::MAX);
        (offset..last).step_by(step).chain([last]).all(|at| is_cached(file, at))
    }

    /// Whether the bytes are in a file, or further away.
    pub(crate) fn is_file(&self) -> bool {
        self.parts().all(|(_, part)| matches!(&*part.0, Kind::File { .. } | Kind::Ranges(_)))
    }

    /// The file, if its pages may be mapped.
    pub(crate) fn mapped_file(&self) -> Option<&File> {
        match &*self.0 {
            Kind::File { file, mapped: true, .. } => Some(file),
            _ => None,
        }
    }

    /// Whether two are clones of one.
    pub(crate) fn is_same(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }

    /// Whether the file is shorter than it was when it was opened.
    pub(crate) fn has_shrunk(&self) -> Result<bool> {
        match &*self.0 {
            Kind::File { file, path, len, .. } => Ok(file_len(file, path)? < *len),
            _ => Ok(false),
        }
    }

    /// The error for bytes that the file had when it was opened.
    pub(crate) fn truncated(&self, offset: u64, len: u64) -> Error {
        match &*self.0 {
            Kind::File { file, path, .. } => truncated(file, path, offset, len),
            _ => Error::OutOfRange { operation: "read", offset, len, size: self.len() },
        }
    }

    /// Checks that bytes `offset..offset + len` are still in the file.
    pub(crate) fn check_present(&self, offset: u64, len: u64) -> Result<()> {
        let Kind::File { file, path, .. } = &*self.0 else { return Ok(()) };
        let now = file_len(file, path)?;
        match offset.checked_add(len) {
            Some(end) if end <= now => Ok(()),
            _ => Err(truncated(file, path, offset, len)),
        }
    }

    fn open_file(path: &Path, mapped: bool) -> Result<Self> {
        let file = regular::open(path)?;
        let len = file_len(&file, path)?;
        Ok(Self::of(Kind::File { file, path: path.to_owned(), len, mapped }))
    }
}

/// A place in a source, from which it is read on.
struct SourceReader<'a> {
    source: &'a Source,
    at: u64,
}

impl Read for SourceReader<'_> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let left = usize::try_from(self.source.len().saturating_sub(self.at));
        let len = out.len().min(left.unwrap_or(usize::MAX));
        self.source.read_at(self.at, &mut out[..len]).map_err(|error| match error {
            Error::Io { source, .. } => source,
            Error::Truncated { .. } => io::Error::new(io::ErrorKind::UnexpectedEof, error),
            error => io::Error::other(error),
        })?;
        self.at += len as u64;
        Ok(len)
    }
}

fn file_len(file: &File, path: &Path) -> Result<u64> {
    let metadata = file.metadata().map_err(|source| Error::Io {
        operation: "ask for the length of",
        path: path.to_owned(),
        source,
    })?;
    Ok(metadata.len())
}

fn truncated(file: &File, path: &Path, offset: u64, len: u64) -> Error {
    let now = file_len(file, path).unwrap_or(0);
    Error::Truncated { path: path.to_owned(), now, offset, len }
}

/// Bytes that Linux reads ahead for every disk that is not told otherwise.
const AHEAD: u64 = 128 << 10;

/// How far apart bytes are that are looked at. The system drops and reads many pages at a time.
const SAMPLE: u64 = 256 << 10;

#[cfg(target_os = "linux")]
fn advise_will_need(file: &File, offset: u64, len: u64) {
    let len = std::num::NonZeroU64::new(len);
    // If the system does not, reading the bytes takes longer, and that is all.
    _ = rustix::fs::fadvise(file, offset, len, rustix::fs::Advice::WillNeed);
}

#[cfg(not(target_os = "linux"))]
fn advise_will_need(_: &File, _: u64, _: u64) {}

/// Whether a byte can be read without waiting for a disk.
#[cfg(target_os = "linux")]
fn is_cached(file: &File, at: u64) -> bool {
    use rustix::io::{ReadWriteFlags, preadv2};
    let mut byte = [0];
    let mut bytes = [io::IoSliceMut::new(&mut byte)];
    preadv2(file, &mut bytes, at, ReadWriteFlags::NOWAIT) == Ok(1)
}

#[cfg(not(target_os = "linux"))]
fn is_cached(_: &File, _: u64) -> bool {
    false
}

#[cfg(unix)]
fn read_exact_at(file: &File, out: &mut [u8], offset: u64) -> io::Result<()> {
    std::os::unix::fs::FileExt::read_exact_at(file, out, offset)
}

#[cfg(windows)]
fn read_exact_at(file: &File, mut out: &mut [u8], mut offset: u64) -> io::Result<()> {
    use std::os::windows::fs::FileExt;
    while !out.is_empty() {
        let count = file.seek_read(out, offset)?;
        if count == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        out = &mut out[count..];
        offset += count as u64;
    }
    Ok(())
}

//! Bytes that several guests show without a copy for each.

use std::fs::File;
use std::ops::Range;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::{fmt, io};

use polychord_plan::range::check_range;

use crate::{Error, Result};

/// How many bytes the images of one owner may have together, and how many they have.
///
/// Clones are about the same bytes. What an image has counts until the last guest that shows some of it is gone,
/// and the image itself.
///
/// ```
/// use polychord_runtime_api::ImageRoom;
///
/// let room = ImageRoom::new(1 << 20);
/// assert_eq!((room.most(), room.used()), (1 << 20, 0));
/// ```
#[derive(Clone, Debug)]
pub struct ImageRoom(Arc<Room>);

#[derive(Debug)]
struct Room {
    most: AtomicU64,
    used: AtomicU64,
}

/// Bytes that do not change, and that guests show in their memories: pages are shared by all of them until one
/// writes to its own ([`Runtime::write_image`](crate::Runtime::write_image)). Clones are one image.
///
/// They are in anonymous memory of the system, sealed, so that nothing can change or shorten them.
///
/// ```
/// use polychord_runtime_api::{ImageBuilder, ImageRoom, Result, Runtime};
///
/// /// Two guests begin with the same bytes.
/// fn begin(guests: &mut [Box<dyn Runtime>; 2], bytes: &[u8], address: u64) -> Result<()> {
///     let image = ImageBuilder::new(&ImageRoom::default()).and_then(|mut builder| {
///         // It begins in its page as it does in the guests.
///         let start = builder.begin(address);
///         builder.write(bytes)?;
///         Ok((builder.finish()?, start))
///     });
///     for guest in guests {
///         match &image {
///             Ok((image, start)) => {
///                 let range = *start..*start + bytes.len() as u64;
///                 guest.write_image(0, address, image, range)?;
///             }
///             // Where the system has no such memory, or no room.
///             Err(_) => guest.write_memory(0, address, bytes)?,
///         }
///     }
///     Ok(())
/// }
/// ```
#[derive(Clone)]
pub struct Image(Arc<Sealed>);

struct Sealed {
    file: File,
    bytes: u64,
    _taken: Taken,
}

/// An image that is being made; see [`Image`].
#[derive(Debug)]
pub struct ImageBuilder {
    file: File,
    /// Where the next byte comes.
    end: u64,
    taken: Taken,
}

/// Bytes that were taken of a room, until it is dropped.
#[derive(Debug)]
struct Taken {
    room: ImageRoom,
    bytes: u64,
}

impl ImageRoom {
    /// Room for that many bytes; none for 0.
    #[must_use]
    pub fn new(most: u64) -> Self {
        Self(Arc::new(Room { most: AtomicU64::new(most), used: AtomicU64::new(0) }))
    }

    /// Most bytes that there may be.
    #[must_use]
    pub fn most(&self) -> u64 {
        self.0.most.load(Ordering::Relaxed)
    }

    /// Sets the most bytes that there may be. What is there already stays.
    pub fn set_most(&self, most: u64) {
        self.0.most.store(most, Ordering::Relaxed);
    }

    /// Bytes that there are.
    #[must_use]
    pub fn used(&self) -> u64 {
        self.0.used.load(Ordering::Relaxed)
    }
}

/// Room for as much as the system has.
impl Default for ImageRoom {
    fn default() -> Self {
        Self::new(u64::MAX)
    }
}

impl ImageBuilder {
    /// An image without bytes.
    ///
    /// # Errors
    ///
    /// [`Error::Io`] if the operating system has no such memory, or there is no room.
    pub fn new(room: &ImageRoom) -> Result<Self> {
        let file = match room.most() {
            0 => Err(io::Error::other("there is no room for images")),
            _ => anonymous_file(),
        };
        let taken = Taken { room: room.clone(), bytes: 0 };
        Ok(Self { file: file.map_err(cannot("make"))?, end: 0, taken })
    }

    /// Begins a range that lies in its page of the image as `address` does in its page of a guest's memory, which
    /// its pages need for being shown there. Tells where it begins.
    pub fn begin(&mut self, address: u64) -> u64 {
        let page = page_size();
        // No address and no file is as large as this number.
        let (here, there) = (self.end % page, address % page);
        self.end += if there >= here { there - here } else { page - here + there };
        self.end
    }

    /// Appends bytes to the range.
    ///
    /// # Errors
    ///
    /// [`Error::Io`] if the operating system or the room has not as much.
    pub fn write(&mut self, bytes: &[u8]) -> Result<()> {
        let end = self.end + bytes.len() as u64;
        let taken = self.taken.up_to(end.next_multiple_of(page_size()));
        let written = taken.and_then(|()| write_at(&self.file, bytes, self.end));
        written.map_err(cannot("write to"))?;
        self.end = end;
        Ok(())
    }

    /// The image, which does not change from now on.
    ///
    /// # Errors
    ///
    /// [`Error::Io`] if the operating system refuses.
    pub fn finish(self) -> Result<Image> {
        // Pages behind the end of a file cannot be read.
        let bytes = self.end.next_multiple_of(page_size());
        let sealed = self.file.set_len(bytes).and_then(|()| seal(&self.file));
        sealed.map_err(cannot("seal"))?;
        Ok(Image(Arc::new(Sealed { file: self.file, bytes, _taken: self.taken })))
    }
}

impl Image {
    /// Bytes that it has, with those that no range has.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.0.bytes
    }

    /// The file whose pages are shown: sealed, so it has all bytes for ever.
    #[cfg(unix)]
    pub(crate) fn file(&self) -> &File {
        &self.0.file
    }

    /// Checks that a range is in it.
    pub(crate) fn check(&self, range: &Range<u64>) -> Result<()> {
        let len = range.end.checked_sub(range.start).unwrap_or(u64::MAX);
        Ok(check_range("reading an image", range.start, len, self.bytes())?)
    }

    /// Copies bytes out of it.
    ///
    /// # Errors
    ///
    /// [`Error::OutOfRange`] if it has not as many, and [`Error::Io`] if the operating system refuses.
    pub fn read_at(&self, offset: u64, out: &mut [u8]) -> Result<()> {
        self.check(&(offset..offset.saturating_add(out.len() as u64)))?;
        read_at(&self.0.file, out, offset).map_err(cannot("read"))
    }

    /// One whose pages cannot be mapped: a file that is none of ours.
    #[cfg(test)]
    pub(crate) fn broken(file: File, bytes: u64) -> Self {
        let taken = Taken { room: ImageRoom::default(), bytes: 0 };
        Self(Arc::new(Sealed { file, bytes, _taken: taken }))
    }
}

impl fmt::Debug for Image {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Image").field("bytes", &self.bytes()).finish_non_exhaustive()
    }
}

impl Taken {
    /// Takes more, up to this number in all.
    fn up_to(&mut self, bytes: u64) -> io::Result<()> {
        let more = bytes.saturating_sub(self.bytes);
        let most = self.room.most();
        let fits = |used: u64| used.checked_add(more).filter(|sum| *sum <= most);
        let taken = self.room.0.used.fetch_update(Ordering::Relaxed, Ordering::Relaxed, fits);
        taken.map_err(|used| {
            io::Error::other(format!(
                "{more} bytes of an image do not fit: others have {used} of {most}"
            ))
        })?;
        self.bytes += more;
        Ok(())
    }
}

impl Drop for Taken {
    fn drop(&mut self) {
        self.room.0.used.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

/// What cannot be done with an image.
fn cannot(operation: &'static str) -> impl Fn(io::Error) -> Error {
    move |source| Error::Io { operation, path: PathBuf::from("an image of memory"), source }
}

/// A file without a name, in memory, that no other process has.
#[cfg(target_os = "linux")]
fn anonymous_file() -> io::Result<File> {
    use rustix::fs::{MemfdFlags, memfd_create};
    use rustix::io::Errno;

    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    // Linux before 6.3 does not know the flag that it is no program.
    let made = match memfd_create("polychord", flags | MemfdFlags::NOEXEC_SEAL) {
        Err(Errno::INVAL) => memfd_create("polychord", flags),
        made => made,
    };
    Ok(File::from(made?))
}

#[cfg(target_os = "linux")]
fn seal(file: &File) -> io::Result<()> {
    use rustix::fs::{SealFlags, fcntl_add_seals};

    let seals = SealFlags::WRITE | SealFlags::GROW | SealFlags::SHRINK | SealFlags::SEAL;
    Ok(fcntl_add_seals(file, seals)?)
}

/// Elsewhere nothing is shared.
#[cfg(not(target_os = "linux"))]
fn anonymous_file() -> io::Result<File> {
    Err(io::ErrorKind::Unsupported.into())
}

#[cfg(not(target_os = "linux"))]
fn seal(_: &File) -> io::Result<()> {
    Err(io::ErrorKind::Unsupported.into())
}

#[cfg(unix)]
fn write_at(file: &File, bytes: &[u8], offset: u64) -> io::Result<()> {
    std::os::unix::fs::FileExt::write_all_at(file, bytes, offset)
}

#[cfg(unix)]
fn read_at(file: &File, out: &mut [u8], offset: u64) -> io::Result<()> {
    std::os::unix::fs::FileExt::read_exact_at(file, out, offset)
}

#[cfg(not(unix))]
fn write_at(_: &File, _: &[u8], _: u64) -> io::Result<()> {
    Err(io::ErrorKind::Unsupported.into())
}

#[cfg(not(unix))]
fn read_at(_: &File, _: &mut [u8], _: u64) -> io::Result<()> {
    Err(io::ErrorKind::Unsupported.into())
}

#[cfg(unix)]
fn page_size() -> u64 {
    rustix::param::page_size() as u64
}

#[cfg(not(unix))]
fn page_size() -> u64 {
    polychord_abi::PAGE
}

#[cfg(test)]
#[cfg(target_os = "linux")]
mod tests {
    use super::*;

    #[test]
    fn what_was_written_stays_and_is_counted() {
        let room = ImageRoom::new(5 * page_size());
        let mut builder = ImageBuilder::new(&room).unwrap();
        assert_eq!(builder.begin(100), 100);
        builder.write(&[1; 50]).unwrap();
        assert_eq!(builder.begin(3 * page_size() + 100), page_size() + 100);
        builder.write(&[2; 50]).unwrap();
        assert_eq!(builder.begin(page_size() + 150), page_size() + 150);
        assert_eq!(room.used(), 2 * page_size());
        let image = builder.finish().unwrap();
        assert_eq!((image.bytes(), room.used()), (2 * page_size(), 2 * page_size()));
        let mut bytes = [9; 52];
        image.read_at(page_size() + 99, &mut bytes).unwrap();
        assert!(bytes[0] == 0 && bytes[1..51].iter().all(|byte| *byte == 2) && bytes[51] == 0);
        assert!(image.read_at(image.bytes() - 1, &mut bytes).is_err());
        // Sealed, also for those that have the file.
        assert!(write_at(image.file(), &[3], 100).is_err());
        assert!(image.file().set_len(0).is_err() && image.file().set_len(1 << 20).is_err());
        let clone = image.clone();
        drop(image);
        assert_eq!(room.used(), 2 * page_size());
        drop(clone);
        assert_eq!(room.used(), 0);
    }

    #[test]
    fn what_does_not_fit_is_refused_and_takes_nothing() {
        let room = ImageRoom::new(page_size());
        let mut builder = ImageBuilder::new(&room).unwrap();
        builder.write(&[1; 10]).unwrap();
        let error = builder.write(&vec![1; 8192]).unwrap_err();
        assert!(error.to_string().contains("do not fit"), "{error}");
        drop(builder);
        assert_eq!(room.used(), 0);
        assert!(ImageBuilder::new(&ImageRoom::new(0)).is_err());
        // Clones are one room, whose size can change.
        let mut one = ImageBuilder::new(&room.clone()).unwrap();
        one.write(&[1]).unwrap();
        assert!(ImageBuilder::new(&room).unwrap().write(&[1]).is_err());
        room.clone().set_most(2 * page_size());
        ImageBuilder::new(&room).unwrap().write(&[1]).unwrap();
    }
}

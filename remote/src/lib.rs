//! Model files on a server, of which only the ranges that are needed are read.
//!
//! [`open`] asks for the first bytes of a file and has a [`Source`] for it, from which a model is opened by its
//! header alone, and whose layers come as they are loaded: all of them into guests that hold them, or
//! again and again where layers are paged.
//!
//! ```no_run
//! use polychord_remote::{Options, open};
//!
//! let options = Options::new().cache("/var/cache/polychord", 20 << 30);
//! let file = open("https://example.com/model.gguf", &options)?;
//! println!("{} bytes of {}", file.source.len(), file.version);
//! # Ok::<(), polychord_remote::Error>(())
//! ```
//!
//! | what a server does | what happens |
//! | --- | --- |
//! | it is slow, busy, or cuts the connection | it is asked again, a few times, ever later |
//! | it asks to wait (`Retry-After`) | it is asked again then; not if that is more than half a minute |
//! | it sends a byte now and then | as if it had cut the connection |
//! | it leads elsewhere | that is followed, but not from `https` to `http` |
//! | it ignores ranges | [`Error::RangesIgnored`], before anything is read |
//! | the file is another one meanwhile | [`Error::Changed`], by the file's ETag, its length, and digests of what was read before; also if it does not tell the ETag any more |
//! | it sends more than it says, another range, or compressed bytes | [`Error::WrongRange`] |
//! | it is not there at all | what the cache has is used; without it [`Error::Connection`] |
//! | it sends other bytes than a digest says | [`Error::WrongDigest`] |
//!
//! `s3://bucket/key` is an object of S3 or of a server like it ([`S3`]), by requests that are signed one by one; of it
//! all of this is true as well.

mod blocks;
mod cache;
mod digests;
mod error;
mod options;
mod remote;
mod s3;
mod server;
#[cfg(test)]
mod tests;

use polychord_runtime_api::Source;

pub use error::Error;
pub use options::{Options, RangeDigest};
pub use s3::S3;

/// A file on a server.
///
/// ```no_run
/// use polychord_remote::{Options, open};
///
/// let file = open("https://example.com/model.gguf", &Options::new())?;
/// let mut magic = [0; 4];
/// file.source.read_at(0, &mut magic)?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Opened {
    /// Its bytes, which come when they are read.
    pub source: Source,
    /// What tells this version of the file from others: its ETag, or else its time.
    pub version: String,
}

/// Opens a file on a server.
///
/// # Errors
///
/// [`Error`] if the server cannot be reached, has no such file, or cannot serve parts of it.
pub fn open(url: &str, options: &Options) -> Result<Opened, Error> {
    let remote = remote::Remote::open(url, options)?;
    let version = remote.version();
    Ok(Opened { source: Source::from_ranges(remote), version })
}

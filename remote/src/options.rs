//! How a file on a server is read.

use std::path::PathBuf;
use std::time::Duration;

use crate::s3::S3;

/// How a file on a server is read.
///
/// ```
/// use std::time::Duration;
///
/// use polychord_remote::Options;
///
/// let options = Options::new().attempts(3).stall(Duration::from_secs(10));
/// assert_eq!(options.attempts, 3);
/// ```
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Options {
    /// A folder for what was read, and how many bytes of it are kept at most; none by default. No other
    /// user may be able to write to it.
    pub cache: Option<(PathBuf, u64)>,
    /// How often a range is asked for before reading fails.
    pub attempts: u32,
    /// The wait before the second attempt; it doubles with each further one.
    pub backoff: Duration,
    /// How long the server may take to connect, to answer, between two pieces of an answer, and on average for
    /// each 64 KiB of it.
    pub stall: Duration,
    /// How many bytes are read before they are asked for.
    pub ahead: u64,
    /// Digests of ranges, as of the layers of a plan: a range is compared as a whole before its first byte is
    /// used.
    pub digests: Vec<RangeDigest>,
    /// Where the buckets of `s3://` addresses are, and who reads them.
    pub s3: S3,
    /// Whether the server is never asked: all that is read has to be in the cache.
    pub offline: bool,
    /// Bytes that are asked for at once.
    pub(crate) block: usize,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            cache: None,
            attempts: 6,
            backoff: Duration::from_millis(200),
            stall: Duration::from_secs(20),
            ahead: 16 << 20,
            digests: Vec::new(),
            s3: S3::new(),
            offline: false,
            block: 2 << 20,
        }
    }
}

impl Options {
    /// The defaults: no cache on disk, and six attempts within some ten seconds.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Keeps at most `bytes` of what was read in a folder.
    #[must_use]
    pub fn cache(mut self, folder: impl Into<PathBuf>, bytes: u64) -> Self {
        self.cache = Some((folder.into(), bytes));
        self
    }

    /// Sets how often a range is asked for.
    #[must_use]
    pub const fn attempts(mut self, attempts: u32) -> Self {
        self.attempts = attempts;
        self
    }

    /// Sets the wait before the second attempt.
    #[must_use]
    pub const fn backoff(mut self, backoff: Duration) -> Self {
        self.backoff = backoff;
        self
    }

    /// Sets how long the server may be silent.
    #[must_use]
    pub const fn stall(mut self, stall: Duration) -> Self {
        self.stall = stall;
        self
    }

    /// Sets how many bytes are read before they are asked for.
    #[must_use]
    pub const fn ahead(mut self, bytes: u64) -> Self {
        self.ahead = bytes;
        self
    }

    /// Sets whether the server is never asked, so that all that is read has to be in the cache.
    #[must_use]
    pub const fn offline(mut self, offline: bool) -> Self {
        self.offline = offline;
        self
    }

    /// Adds the digest of a range.
    #[must_use]
    pub fn digest(mut self, digest: RangeDigest) -> Self {
        self.digests.push(digest);
        self
    }

    /// Sets where the buckets of `s3://` addresses are, and who reads them.
    #[must_use]
    pub fn s3(mut self, s3: S3) -> Self {
        self.s3 = s3;
        self
    }

    #[cfg(test)]
    pub(crate) const fn block(mut self, bytes: usize) -> Self {
        self.block = bytes;
        self
    }
}

/// What bytes of a file are to be.
///
/// ```
/// use polychord_remote::RangeDigest;
///
/// let layer = RangeDigest::new(4096, 1 << 20, [0; 32]);
/// assert_eq!(layer.end(), Some(4096 + (1 << 20)));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct RangeDigest {
    /// Where the range begins.
    pub start: u64,
    /// How many bytes it has.
    pub bytes: u64,
    /// SHA-256 of them.
    pub sha256: [u8; 32],
}

impl RangeDigest {
    /// The digest of `bytes` bytes from `start` on.
    #[must_use]
    pub const fn new(start: u64, bytes: u64, sha256: [u8; 32]) -> Self {
        Self { start, bytes, sha256 }
    }

    /// Where the range ends, if 64 bits express it.
    #[must_use]
    pub const fn end(&self) -> Option<u64> {
        self.start.checked_add(self.bytes)
    }
}

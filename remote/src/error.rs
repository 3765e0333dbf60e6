//! What can be wrong with a file on a server.

use std::io;
use std::time::Duration;

/// Why a file on a server cannot be read.
///
/// ```
/// use polychord_remote::Error;
///
/// let error = Error::RangesIgnored { url: "http://host/model.gguf".into() };
/// assert!(error.to_string().contains("ignores ranges") && !error.is_temporary());
/// ```
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The server cannot be reached, or the connection broke off.
    #[error("{url} cannot be read: {reason}; check the network, and try again")]
    Connection {
        /// The file.
        url: String,
        /// What happened.
        reason: String,
    },
    /// The address of an object in a bucket is none.
    #[error("{url} cannot be read: {reason}")]
    NoObject {
        /// The address.
        url: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The server refuses.
    #[error(
        "the server refuses {url} with status {status}: check the address, and whether it needs a signature"
    )]
    Refused {
        /// The file.
        url: String,
        /// Its answer.
        status: u16,
    },
    /// The server is busy or has failed.
    #[error("the server has no answer for {url} now (status {status}): try again {}", when(.wait))]
    Busy {
        /// The file.
        url: String,
        /// Its answer.
        status: u16,
        /// How long it asks to wait (`Retry-After`), if it does.
        wait: Option<Duration>,
    },
    /// The address, or another one that it leads to, is none that can be used.
    #[error("{url} cannot be read: {reason}")]
    Address {
        /// The file.
        url: String,
        /// What is wrong.
        reason: String,
    },
    /// The file is to be read without its server, and the cache does not have it.
    #[error(
        "the cache does not have bytes {start} to {end} of {url}, and the server is not asked: read the model once with the server, in a cache with room for all of it"
    )]
    NotKept {
        /// The file.
        url: String,
        /// The first byte.
        start: u64,
        /// Behind the last.
        end: u64,
    },
    /// The server sends whole files only.
    #[error(
        "the server ignores ranges of {url}, so that layers cannot be streamed: download the file, and open it by its path"
    )]
    RangesIgnored {
        /// The file.
        url: String,
    },
    /// Nothing tells whether the file has changed.
    #[error(
        "the server tells neither a strong ETag nor a Last-Modified of {url}, so that a change would not be noticed: download the file, and open it by its path"
    )]
    NoValidator {
        /// The file.
        url: String,
    },
    /// The file is not the one that was opened.
    #[error("{url} has changed since it was opened ({what}): open it again")]
    Changed {
        /// The file.
        url: String,
        /// How that was noticed.
        what: String,
    },
    /// What came is not what was asked for.
    #[error("the server's answer for bytes {start} to {end} of {url} is wrong: {what}")]
    WrongRange {
        /// The file.
        url: String,
        /// The first byte.
        start: u64,
        /// Behind the last.
        end: u64,
        /// What is wrong.
        what: String,
    },
    /// The bytes are not those of the digest.
    #[error(
        "bytes {start} to {end} of {url} have the SHA-256 {found} where {expected} was expected: the file is another one, or damaged"
    )]
    WrongDigest {
        /// The file.
        url: String,
        /// The first byte.
        start: u64,
        /// Behind the last.
        end: u64,
        /// Of what came.
        found: String,
        /// Of what should have come.
        expected: String,
    },
    /// A digest is about bytes that the file does not have.
    #[error("a digest is about bytes {start} to {end}, but {url} has {len}")]
    DigestRange {
        /// The file.
        url: String,
        /// The first byte.
        start: u64,
        /// Behind the last.
        end: u64,
        /// Its length.
        len: u64,
    },
    /// The cache cannot be used.
    #[error("cannot use the cache: {0}")]
    Cache(String),
}

impl Error {
    /// Whether asking again may help.
    #[must_use]
    pub const fn is_temporary(&self) -> bool {
        matches!(self, Self::Connection { .. } | Self::Busy { .. })
    }
}

fn when(wait: &Option<Duration>) -> String {
    wait.map_or_else(|| "later".to_owned(), |wait| format!("in {} s", wait.as_secs()))
}

impl From<Error> for io::Error {
    fn from(error: Error) -> Self {
        let kind = match error {
            Error::Connection { .. } | Error::Busy { .. } => io::ErrorKind::ConnectionAborted,
            Error::Refused { .. } => io::ErrorKind::PermissionDenied,
            Error::NotKept { .. } => io::ErrorKind::NotFound,
            _ => io::ErrorKind::InvalidData,
        };
        Self::new(kind, error)
    }
}

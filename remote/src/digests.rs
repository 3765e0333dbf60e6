//! Digests of what was read.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::ops::Range;

use sha2::{Digest as _, Sha256};

use crate::error::Error;
use crate::options::RangeDigest;

/// What is known of a file's bytes: of blocks that were read before, and of ranges that are to be compared.
#[derive(Debug, Default)]
pub(crate) struct Digests {
    /// Of each block that was read.
    seen: BTreeMap<u64, [u8; 32]>,
    /// Ranges that were not compared yet.
    open: Vec<RangeDigest>,
}

impl Digests {
    pub(crate) fn new(url: &str, len: u64, digests: &[RangeDigest]) -> Result<Self, Error> {
        for digest in digests {
            if digest.end().is_none_or(|end| end > len) {
                let (start, end) = (digest.start, digest.end().unwrap_or(u64::MAX));
                return Err(Error::DigestRange { url: url.to_owned(), start, end, len });
            }
        }
        Ok(Self { seen: BTreeMap::new(), open: digests.to_vec() })
    }

    /// Whether a block has the bytes that it had when it was read before.
    pub(crate) fn is_as_before(&mut self, number: u64, bytes: &[u8]) -> bool {
        let digest = Sha256::digest(bytes).into();
        *self.seen.entry(number).or_insert(digest) == digest
    }

    /// The next range that has to be compared before bytes of another one are used.
    pub(crate) fn next(&self, range: &Range<u64>) -> Option<RangeDigest> {
        let meets = |it: &&RangeDigest| {
            it.start < range.end && it.end().is_some_and(|end| range.start < end)
        };
        self.open.iter().find(meets).copied()
    }

    /// A range was found to be right.
    pub(crate) fn done(&mut self, digest: &RangeDigest) {
        self.open.retain(|other| other != digest);
    }
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        _ = write!(text, "{byte:02x}");
        text
    })
}

//! Why a snapshot or a receipt is refused.

use std::io;
use std::path::PathBuf;

/// The result of reading or writing a snapshot or a receipt.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why a snapshot or a receipt is refused.
///
/// ```
/// use polychord_receipts::{ErrorKind, Receipt};
///
/// let error = Receipt::from_json("{}").unwrap_err();
/// assert_eq!(error.kind(), ErrorKind::Damaged);
/// println!("{error}");
/// ```
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Reading or writing failed.
    #[error("cannot {operation}: {source}")]
    Io {
        /// What was done.
        operation: &'static str,
        /// Why it failed.
        source: io::Error,
    },
    /// The bytes are something else.
    #[error("this is no {what}: {reason}")]
    Foreign {
        /// What was expected.
        what: &'static str,
        /// What is wrong with it.
        reason: String,
    },
    /// It has a version that this program does not know.
    #[error(
        "the {what} has version {found}, and this program reads version {known}: use a newer one"
    )]
    Version {
        /// What it is.
        what: &'static str,
        /// Its version.
        found: u64,
        /// The version that is known.
        known: u32,
    },
    /// It has a part without which it cannot be used, and that this program does not know.
    #[error(
        "the snapshot has a section {tag:?}, which this program does not know: use a newer one"
    )]
    UnknownSection {
        /// The name of the part.
        tag: String,
    },
    /// It ends before its end.
    #[error("the {what} is cut short: it ends in {place}")]
    Cut {
        /// What it is.
        what: &'static str,
        /// Where it ends.
        place: String,
    },
    /// It was changed, or contradicts itself.
    #[error("the {what} is damaged: in {place}, {reason}")]
    Damaged {
        /// What it is.
        what: &'static str,
        /// Where.
        place: String,
        /// What is wrong there.
        reason: String,
    },
    /// It says that something is larger than it may be.
    #[error("{what} of {asked} is more than the {limit} that are possible here")]
    TooLarge {
        /// What is too large.
        what: &'static str,
        /// How large it says that is.
        asked: u64,
        /// The most that is possible.
        limit: u64,
    },
    /// It is about something else than what it is used with.
    #[error("the {what} is of something else: {}", list(differences))]
    Differs {
        /// What it is.
        what: &'static str,
        /// All that differs.
        differences: Vec<Difference>,
    },
    /// Text that is no hexadecimal number of that length.
    #[error("{found:?} is not {digits} lower-case hexadecimal digits")]
    Hex {
        /// How many digits there have to be.
        digits: usize,
        /// The text, or its beginning.
        found: String,
    },
    /// The file of a key cannot be used.
    #[error("cannot use the key in {}: {reason}", path.display())]
    Key {
        /// The file.
        path: PathBuf,
        /// Why not.
        reason: String,
    },
    /// A step that the receipt does not have.
    #[error("there is no step {step}: the receipt has {steps}, which are counted from 0")]
    NoStep {
        /// What was asked for.
        step: u64,
        /// How many there are.
        steps: u64,
    },
}

/// One thing in which a snapshot or a receipt differs from what it is used with.
///
/// ```
/// use polychord_receipts::Difference;
///
/// let difference = Difference::new("cache_type", "f16", "f32");
/// assert_eq!(difference.to_string(), "cache_type is f16 there and f32 here");
/// ```
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{what} is {theirs} there and {ours} here")]
#[non_exhaustive]
pub struct Difference {
    /// What differs.
    pub what: String,
    /// What the snapshot or the receipt says.
    pub theirs: String,
    /// What it is here.
    pub ours: String,
}

impl Difference {
    /// Something that differs.
    pub fn new(what: impl Into<String>, theirs: impl ToString, ours: impl ToString) -> Self {
        Self { what: what.into(), theirs: theirs.to_string(), ours: ours.to_string() }
    }
}

/// What went wrong, for programs that act on it.
///
/// ```
/// use polychord_receipts::{Digest, ErrorKind};
///
/// let error = "abc".parse::<Digest>().unwrap_err();
/// assert_eq!(error.kind(), ErrorKind::Invalid);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// Reading or writing failed.
    Io,
    /// It is of a newer version.
    Unsupported,
    /// It is damaged, was changed, or is something else.
    Damaged,
    /// It is sound, and of another model, guest or option.
    Differs,
    /// What was asked for cannot be.
    Invalid,
}

impl Error {
    /// What went wrong, for programs that act on it.
    #[must_use]
    pub const fn kind(&self) -> ErrorKind {
        match self {
            Self::Io { .. } => ErrorKind::Io,
            Self::Version { .. } | Self::UnknownSection { .. } => ErrorKind::Unsupported,
            Self::Foreign { .. } | Self::Cut { .. } | Self::Damaged { .. } => ErrorKind::Damaged,
            Self::Differs { .. } => ErrorKind::Differs,
            Self::TooLarge { .. } | Self::Hex { .. } | Self::Key { .. } | Self::NoStep { .. } => {
                ErrorKind::Invalid
            }
        }
    }

    pub(crate) fn damaged(
        what: &'static str,
        place: impl Into<String>,
        reason: impl Into<String>,
    ) -> Self {
        Self::Damaged { what, place: place.into(), reason: reason.into() }
    }
}

fn list(differences: &[Difference]) -> String {
    let all: Vec<_> = differences.iter().map(Difference::to_string).collect();
    all.join("; ")
}

//! What a program learns of an error: its kind, where it happened, and its code.

use polychord_abi::code;
use polychord_plan::range::OutOfRange;

use super::{Error, ErrorKind};

impl Error {
    /// What kind of error this is.
    #[must_use]
    pub const fn kind(&self) -> ErrorKind {
        match self {
            Self::InvalidModule { .. } | Self::TooComplex { .. } | Self::Imports { .. } => {
                ErrorKind::InvalidModule
            }
            Self::Unmet { .. } => ErrorKind::Unsupported,
            Self::Compile { .. }
            | Self::Instantiate { .. }
            | Self::Call { .. }
            | Self::EngineVersion { .. }
            | Self::SignalConflict { .. } => ErrorKind::Engine,
            Self::Trap { .. } => ErrorKind::Trap,
            Self::Host { .. } => ErrorKind::Host,
            Self::Exit { .. } => ErrorKind::Exit,
            Self::Signature { .. }
            | Self::Import { .. }
            | Self::GlobalType { .. }
            | Self::NotText { .. }
            | Self::NotInterruptible
            | Self::NotEnabled { .. }
            | Self::NoGuestMemory { .. }
            | Self::InvalidMemory { .. }
            | Self::InvalidLayer { .. }
            | Self::InvalidPlan { .. }
            | Self::BadChunk { .. }
            | Self::RankCount { .. }
            | Self::RankNumber { .. }
            | Self::HasRank { .. } => ErrorKind::InvalidInput,
            Self::MissingExport { .. }
            | Self::MissingGlobal { .. }
            | Self::MemoryNotFound { .. }
            | Self::RegionNotFound { .. }
            | Self::LayerNotFound { .. } => ErrorKind::NotFound,
            Self::TooLarge { .. } | Self::TooMany { .. } => ErrorKind::Limit,
            Self::OutOfMemory { .. } | Self::HostMemory { .. } | Self::NoWatchdog { .. } => {
                ErrorKind::OutOfMemory
            }
            Self::OutOfRange { .. }
            | Self::PointerOverflow { .. }
            | Self::PointerOutOfBounds { .. }
            | Self::AcrossSegments { .. }
            | Self::BufferTooSmall { .. } => ErrorKind::OutOfRange,
            Self::RanksDisagree { .. } | Self::RankStopped { .. } | Self::RankBusy { .. } => {
                ErrorKind::Ranks
            }
            Self::Truncated { .. }
            | Self::NotAFile { .. }
            | Self::LayerChanged { .. }
            | Self::Io { .. } => ErrorKind::Io,
            Self::Panic { .. } => ErrorKind::Bug,
        }
    }

    /// The engine that it is about, if it is about one.
    #[must_use]
    pub const fn engine(&self) -> Option<&str> {
        match self {
            Self::Compile { engine, .. }
            | Self::Instantiate { engine, .. }
            | Self::Call { engine, .. }
            | Self::EngineVersion { engine, .. }
            | Self::SignalConflict { engine, .. }
            | Self::Unmet { engine, .. }
            | Self::Trap { engine, .. }
            | Self::Host { engine, .. }
            | Self::OutOfMemory { engine, .. } => Some(*engine),
            _ => None,
        }
    }

    /// What was attempted, if the error says so: an export, an import, or an operation on a file.
    #[must_use]
    pub fn operation(&self) -> Option<&str> {
        match self {
            Self::Call { operation, .. } | Self::Trap { operation, .. } => Some(operation),
            Self::Host { name, .. } | Self::Import { name, .. } => Some(name),
            Self::MissingGlobal { global, .. } | Self::GlobalType { global, .. } => Some(global),
            Self::MissingExport { export, .. } | Self::Signature { export, .. } => Some(export),
            Self::Panic { operation }
            | Self::NotEnabled { operation, .. }
            | Self::NoGuestMemory { operation, .. }
            | Self::OutOfRange { operation, .. }
            | Self::PointerOverflow { operation, .. }
            | Self::PointerOutOfBounds { operation, .. }
            | Self::AcrossSegments { operation, .. }
            | Self::BufferTooSmall { operation, .. }
            | Self::Io { operation, .. } => Some(operation),
            _ => None,
        }
    }

    /// The same error, of guest code that runs as something else than the export that was called.
    pub(crate) fn within(self, place: &str) -> Self {
        let operation = place.to_owned();
        match self {
            Self::Trap { engine, kind, .. } => Self::Trap { engine, operation, kind },
            Self::Call { engine, reason, .. } => Self::Call { engine, operation, reason },
            other => other,
        }
    }

    /// The code that a guest sees for this error: one of [`polychord_abi::code`].
    #[must_use]
    pub fn code(&self) -> i32 {
        match self {
            Self::NotEnabled { .. } | Self::NoGuestMemory { .. } => code::NOT_ENABLED,
            Self::LayerNotFound { .. } => code::LAYER_NOT_FOUND,
            Self::BufferTooSmall { .. } => code::BUFFER_TOO_SMALL,
            Self::OutOfRange { .. } | Self::BadChunk { .. } | Self::RanksDisagree { .. } => {
                code::INVALID_RANGE
            }
            Self::Truncated { .. } | Self::LayerChanged { .. } | Self::Io { .. } => {
                code::READ_FAILED
            }
            Self::PointerOverflow { .. } => code::POINTER_OVERFLOW,
            Self::PointerOutOfBounds { .. } => code::POINTER_OUT_OF_BOUNDS,
            _ => code::INTERNAL,
        }
    }
}

impl From<polychord_plan::Error> for Error {
    fn from(error: polychord_plan::Error) -> Self {
        use polychord_plan::Error as Plan;
        match error {
            Plan::InvalidPlan { reason } => Self::InvalidPlan { reason },
            Plan::TooLarge { what, asked, limit, limited_by } => {
                Self::TooLarge { what, asked, limit, limited_by }
            }
            other => Self::InvalidPlan { reason: other.to_string() },
        }
    }
}

impl From<OutOfRange> for Error {
    fn from(error: OutOfRange) -> Self {
        let OutOfRange { operation, offset, len, size, .. } = error;
        Self::OutOfRange { operation, offset, len, size }
    }
}

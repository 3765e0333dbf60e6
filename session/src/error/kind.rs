//! What a program can do about an error.

use polychord_abi::transformer::status;
use polychord_model as model;
use polychord_runtime_api as api;

use super::Error;

/// What went wrong, for programs that act on it.
///
/// ```
/// use polychord_session::{Error, ErrorKind};
///
/// /// The status that a server answers with.
/// fn status(error: &Error) -> u16 {
///     match error.kind() {
///         ErrorKind::InvalidArgument | ErrorKind::ContextFull => 400,
///         ErrorKind::Stopped => 504,
///         _ => 500,
///     }
/// }
/// assert_eq!(status(&Error::EmptyPrompt), 400);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The file, or what is asked of it, is sound, but this engine or this version cannot do it.
    Unsupported,
    /// The file is damaged, or not what it is taken for.
    InvalidFile,
    /// An option or an argument is out of range, or contradicts another.
    InvalidArgument,
    /// The context has no room for the tokens.
    ContextFull,
    /// It does not fit into the memory that it may have; a limit, a placement or the size of the
    /// context can be changed.
    TooLarge,
    /// The system, or an engine, has no more memory or threads.
    OutOfMemory,
    /// The guest was stopped by its time limit, or another rank by its own. The session can go on.
    Stopped,
    /// Another rank failed first, or ranks do not do the same.
    Rank,
    /// The guest trapped or refused: it is no transformer guest, or there is a bug.
    Guest,
    /// The engine failed.
    Engine,
    /// Reading a file failed.
    Io,
    /// A bug of Polychord.
    Internal,
}

api::plan::named!(ErrorKind, "kind of error", {
    Unsupported = "unsupported",
    InvalidFile = "invalid_file",
    InvalidArgument = "invalid_argument",
    ContextFull = "context_full",
    TooLarge = "too_large",
    OutOfMemory = "out_of_memory",
    Stopped = "stopped",
    Rank = "rank",
    Guest = "guest",
    Engine = "engine",
    Io = "io",
    Internal = "internal",
});

impl From<model::ErrorKind> for ErrorKind {
    fn from(kind: model::ErrorKind) -> Self {
        match kind {
            model::ErrorKind::Unsupported => Self::Unsupported,
            model::ErrorKind::InvalidFile => Self::InvalidFile,
            model::ErrorKind::InvalidArgument => Self::InvalidArgument,
            model::ErrorKind::Io => Self::Io,
            _ => Self::Internal,
        }
    }
}

impl Error {
    /// What went wrong, for programs that act on it.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Gguf { reason, .. } => reason.kind().into(),
            Self::Config { reason, .. } => reason.kind().into(),
            Self::Tokenizer(error) => error.kind().into(),
            Self::Chat(error) => error.kind().into(),
            Self::Sampler(error) => error.kind().into(),
            Self::Runtime(error) => of_runtime(error),
            Self::Receipt(error) => of_receipt(error),
            Self::Guest { status, .. } => of_status(*status),
            Self::GuestVersion { .. } | Self::Unavailable { .. } => ErrorKind::Unsupported,
            Self::TooLargeForMemory32 { .. } | Self::MemoryBytes { .. } => ErrorKind::TooLarge,
            Self::Thread { .. } => ErrorKind::OutOfMemory,
            Self::Isolated { .. } => ErrorKind::Engine,
            Self::ContextFull { .. } => ErrorKind::ContextFull,
            Self::Plan { .. }
            | Self::CacheType(_)
            | Self::Number { .. }
            | Self::Context { .. }
            | Self::Ranks { .. }
            | Self::RanksDiffer { .. }
            | Self::NoRank { .. }
            | Self::Leading
            | Self::Truncate { .. }
            | Self::Encoder
            | Self::Pooling
            | Self::PartOfRanks { .. }
            | Self::PartOfStages { .. }
            | Self::Window { .. }
            | Self::Format { .. }
            | Self::EmptyStop
            | Self::EmptyPrompt => ErrorKind::InvalidArgument,
        }
    }

    /// Name of the engine that refused or failed, if one did.
    #[must_use]
    pub fn engine(&self) -> Option<&str> {
        match self {
            Self::Runtime(error) | Self::Unavailable { reason: error, .. } => error.engine(),
            _ => None,
        }
    }

    /// The export of the guest that was called when it happened, if one was.
    #[must_use]
    pub fn operation(&self) -> Option<&str> {
        match self {
            Self::Guest { operation, .. } => Some(operation),
            Self::Runtime(
                api::Error::Trap { operation, .. } | api::Error::Call { operation, .. },
            ) => Some(operation),
            _ => None,
        }
    }
}

fn of_status(status: i32) -> ErrorKind {
    match status {
        status::BAD_TOKEN => ErrorKind::InvalidArgument,
        status::CONTEXT_FULL => ErrorKind::ContextFull,
        status::UNSUPPORTED_TYPE => ErrorKind::Unsupported,
        status::OUT_OF_MEMORY => ErrorKind::TooLarge,
        status::LAYER_REFUSED => ErrorKind::Io,
        status::GATHER_REFUSED => ErrorKind::Rank,
        _ => ErrorKind::Guest,
    }
}

fn of_receipt(error: &polychord_receipts::Error) -> ErrorKind {
    use polychord_receipts::ErrorKind as Kind;
    match error.kind() {
        Kind::Io => ErrorKind::Io,
        Kind::Unsupported => ErrorKind::Unsupported,
        Kind::Damaged => ErrorKind::InvalidFile,
        _ => ErrorKind::InvalidArgument,
    }
}

fn of_runtime(error: &api::Error) -> ErrorKind {
    use api::Error as E;
    match error {
        E::Trap { kind: api::TrapKind::DeadlineExceeded(_), .. }
        | E::RankStopped { limit: Some(_), .. } => ErrorKind::Stopped,
        E::Trap { .. } | E::InvalidModule { .. } | E::Import { .. } | E::MissingExport { .. } => {
            ErrorKind::Guest
        }
        E::Unmet { .. } | E::SignalConflict { .. } | E::EngineVersion { .. } => {
            ErrorKind::Unsupported
        }
        E::TooLarge { .. } | E::TooMany { .. } | E::TooComplex { .. } => ErrorKind::TooLarge,
        E::OutOfMemory { .. } | E::HostMemory { .. } | E::NoWatchdog { .. } => {
            ErrorKind::OutOfMemory
        }
        E::RankStopped { .. } | E::RanksDisagree { .. } | E::RankBusy { .. } => ErrorKind::Rank,
        E::RankCount { .. } | E::InvalidPlan { .. } => ErrorKind::InvalidArgument,
        E::Truncated { .. } | E::NotAFile { .. } | E::LayerChanged { .. } => ErrorKind::InvalidFile,
        E::Io { .. } => ErrorKind::Io,
        E::Compile { .. } | E::Instantiate { .. } | E::Call { .. } => ErrorKind::Engine,
        // Calls of the host API that sessions get wrong, and panics.
        _ => ErrorKind::Internal,
    }
}

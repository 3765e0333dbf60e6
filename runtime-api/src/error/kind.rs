//! What a program may want to tell apart, without looking at messages.

use serde::Serialize;

/// The kind of an [`Error`](crate::Error), for decisions and for programs in other languages.
///
/// ```
/// use polychord_runtime_api::{ErrorKind, Source};
///
/// let kind = Source::open("/no/such/file").unwrap_err().kind();
/// assert_eq!((kind, kind.name()), (ErrorKind::Io, "io"));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum ErrorKind {
    /// The module is not valid, too complex, or imports what no host offers.
    InvalidModule,
    /// The engine does not offer what is needed.
    Unsupported,
    /// The engine failed: at compiling, at starting a guest, or in a call.
    Engine,
    /// The guest was stopped by a trap, its time limit included.
    Trap,
    /// A function of the host has ended the call.
    Host,
    /// The guest has ended its program, with a code.
    Exit,
    /// A description, an argument or a number is not possible.
    InvalidInput,
    /// There is no memory, region, layer or export of this name.
    NotFound,
    /// Something is larger, or there is more of it, than limits allow.
    Limit,
    /// The system or the engine has no more memory or threads.
    OutOfMemory,
    /// A range leaves its memory, its source or its buffer.
    OutOfRange,
    /// Ranks disagree, or one of them has stopped all.
    Ranks,
    /// A file cannot be read, or is not what it was.
    Io,
    /// A defect of Polychord.
    Bug,
}

polychord_plan::named!(ErrorKind, "kind of error", { InvalidModule = "invalid_module",
    Unsupported = "unsupported",
    Engine = "engine",
    Trap = "trap",
    Host = "host",
    Exit = "exit",
    InvalidInput = "invalid_input",
    NotFound = "not_found",
    Limit = "limit",
    OutOfMemory = "out_of_memory",
    OutOfRange = "out_of_range",
    Ranks = "ranks",
    Io = "io",
    Bug = "bug" });

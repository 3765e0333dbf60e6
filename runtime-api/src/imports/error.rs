//! How a function of the host ends the call of the guest.

use std::error::Error as StdError;
use std::fmt;

use crate::Error;

/// What a function of the host returns to end the guest's call.
///
/// Any error becomes one by `?`. The call of the guest ends, and its caller gets
/// [`Error::Host`] with that error as source, on every engine. An error that has ended a
/// [call back](crate::imports::Caller::call) into the guest (a trap, an exit, or the error of another
/// function of the host) ends the outer call as it is.
///
/// ```
/// use polychord_runtime_api::imports::{Caller, HostError};
///
/// fn parse(caller: &mut Caller<'_>, (ptr, len): (u32, u32)) -> Result<i32, HostError> {
///     match caller.read_str(ptr, len)? {
///         "stop" => Err(HostError::exit(0)),
///         "" => Err(HostError::new("there is no number")),
///         number => Ok(number.parse()?),
///     }
/// }
/// ```
pub struct HostError(End);

enum End {
    Exit(i32),
    Error(Box<dyn StdError + Send + Sync>),
}

/// The source of an [`Error::Host`](crate::Error::Host) whose function has panicked.
///
/// ```
/// use polychord_runtime_api::Error;
/// use polychord_runtime_api::imports::HostPanic;
///
/// fn has_panicked(error: &Error) -> bool {
///     matches!(error, Error::Host { source, .. } if source.is::<HostPanic>())
/// }
/// # assert!(!has_panicked(&Error::Exit { code: 0 }));
/// ```
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("it panicked: {message}")]
#[non_exhaustive]
pub struct HostPanic {
    /// What the panic says.
    pub message: String,
}

impl HostError {
    /// Ends the guest's call with an error, which the caller finds as the source of
    /// [`Error::Host`].
    pub fn new(error: impl Into<Box<dyn StdError + Send + Sync>>) -> Self {
        Self(End::Error(error.into()))
    }

    /// Ends the guest's program in the normal way, with a code: the caller gets [`Error::Exit`],
    /// which is no trap, and the guest can be called again.
    #[must_use]
    pub const fn exit(code: i32) -> Self {
        Self(End::Exit(code))
    }

    /// The error of a function of this name that has panicked.
    pub(super) fn panicked(panic: &(dyn std::any::Any + Send)) -> Self {
        let text = panic.downcast_ref::<&str>().copied();
        let text = text.or_else(|| panic.downcast_ref::<String>().map(String::as_str));
        let message = text.unwrap_or("without a message").to_owned();
        Self::new(HostPanic { message })
    }

    /// What the caller of the guest gets.
    pub(super) fn into_error(self, engine: &'static str, module: &str, name: &str) -> Error {
        let source = match self.0 {
            End::Exit(code) => return Error::Exit { code },
            End::Error(source) => source,
        };
        let source = match source.downcast::<Error>() {
            Ok(error) => match *error {
                // What has ended a call within the call ends that one, too.
                error @ (Error::Exit { .. } | Error::Host { .. } | Error::Trap { .. }) => {
                    return error;
                }
                other => Box::new(other),
            },
            Err(source) => source,
        };
        Error::Host { engine, module: module.to_owned(), name: name.to_owned(), source }
    }
}

impl<E: StdError + Send + Sync + 'static> From<E> for HostError {
    fn from(error: E) -> Self {
        Self::new(error)
    }
}

impl fmt::Debug for HostError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            End::Exit(code) => f.debug_tuple("Exit").field(code).finish(),
            End::Error(error) => f.debug_tuple("HostError").field(error).finish(),
        }
    }
}

impl fmt::Display for HostError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            End::Exit(code) => write!(f, "exit with code {code}"),
            End::Error(error) => error.fmt(f),
        }
    }
}

//! How a guest came to its end.

use std::process::ExitCode;

use polychord::api::{Error, TrapKind};
use serde::{Deserialize, Serialize};

use crate::cli::Failure;
use crate::cli::ctrl_c;

/// How a guest came to its end.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Ending {
    /// By itself, with this code.
    Exited(i32),
    /// Otherwise: what happened, and what the shell is told.
    Failed { error: String, status: u8 },
}

/// What the shell is told of a command that did not come to its own end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Status {
    /// The time of --time was over, as `timeout` says it.
    Time = 124,
    /// There was nothing to run, or it could not be run.
    Refused = 125,
    /// Ctrl-C.
    Interrupted = ctrl_c::INTERRUPTED as isize,
    /// A trap, or an error of the host: as for programs that abort.
    Trapped = 134,
}

impl Ending {
    /// The end of a call.
    pub(super) fn of<T>(result: Result<T, Error>) -> (Option<T>, Self) {
        let error = match result {
            Ok(value) => return (Some(value), Self::Exited(0)),
            Err(Error::Exit { code }) => return (None, Self::Exited(code)),
            Err(error) => error,
        };
        let status = match error {
            Error::Trap { kind: TrapKind::DeadlineExceeded(_), .. } => Status::Time,
            Error::Trap { kind: TrapKind::Interrupted, .. } => Status::Interrupted,
            Error::Trap { .. } | Error::Host { .. } => Status::Trapped,
            _ => Status::Refused,
        };
        let error = Failure::from(error).message();
        (None, Self::Failed { error, status: status as u8 })
    }

    /// Why it could not be run, or not to an end of its own: of the machine and not of the guest.
    pub(crate) fn refusal(&self) -> Option<&str> {
        match self {
            Self::Failed { error, status } if *status == Status::Refused as u8 => Some(error),
            _ => None,
        }
    }

    /// What the shell is told. It knows codes up to 255.
    pub(super) fn code(&self) -> ExitCode {
        match self {
            Self::Exited(code) => ExitCode::from(u8::try_from(*code).unwrap_or(u8::MAX)),
            Self::Failed { status, .. } => ExitCode::from(*status),
        }
    }
}

impl From<Status> for ExitCode {
    fn from(status: Status) -> Self {
        Self::from(status as u8)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_machine_refuses_is_no_end_of_the_guest() {
        let of = |error| Ending::of::<()>(Err(error)).1;
        let refused = of(Error::NotInterruptible);
        assert!(refused.refusal().is_some_and(|it| !it.is_empty()), "{refused:?}");
        let kind = TrapKind::Unreachable;
        let trap = Error::Trap { engine: "wasmi", operation: "f".to_owned(), kind };
        for end in [Error::Exit { code: 125 }, trap] {
            assert_eq!(of(end).refusal(), None);
        }
    }
}

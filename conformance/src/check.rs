//! What cases assert with.

use std::fmt::Debug;

use polychord_runtime_api::{Error, Result, TrapKind, Unmet};

use crate::{Failure, Outcome};

/// Two values are equal.
#[track_caller]
pub(crate) fn equal<T: PartialEq + Debug>(what: &str, got: T, expected: T) -> Outcome {
    holds(got == expected, || format!("{what}: got {got:?}, expected {expected:?}"))
}

/// Two memories are equal; a failure names the first byte that differs.
#[track_caller]
pub(crate) fn same_bytes(what: &str, got: &[u8], expected: &[u8]) -> Outcome {
    equal(&format!("{what}: number of bytes"), got.len(), expected.len())?;
    let differs = || got.iter().zip(expected).position(|(got, expected)| got != expected);
    holds(got == expected, || {
        let at = differs().unwrap_or_default();
        format!("{what}: byte {at} is {}, expected {}", got[at], expected[at])
    })
}

/// A condition is true.
#[track_caller]
pub(crate) fn holds(condition: bool, message: impl FnOnce() -> String) -> Outcome {
    if condition { Ok(()) } else { Err(Failure::new(message())) }
}

/// A request is refused, and the refusal says all these things.
#[track_caller]
pub(crate) fn refused<T>(result: Result<T>, says: &[&str]) -> Result<Error, Failure> {
    let Err(error) = result else {
        return Err(Failure::new("was not refused"));
    };
    let message = error.to_string();
    for part in says {
        holds(message.contains(part), || format!("{message:?} does not say {part:?}"))?;
    }
    Ok(error)
}

/// A request is refused because of what the engine lacks; returns what that is.
#[track_caller]
pub(crate) fn unmet<T>(result: Result<T>) -> Result<Vec<Unmet>, Failure> {
    match refused(result, &[])? {
        Error::Unmet { unmet, .. } => Ok(unmet),
        other => Err(Failure::new(format!("expected Unmet, got: {other}"))),
    }
}

/// Guest code trapped in this way and in this operation.
#[track_caller]
pub(crate) fn trapped<T>(result: Result<T>, operation: &str, expected: TrapKind) -> Outcome {
    match refused(result, &[])? {
        Error::Trap { operation: got, kind, .. } => {
            equal("where it trapped", got.as_str(), operation)?;
            equal("kind of trap", kind, expected)
        }
        other => Err(Failure::new(format!("expected a trap, got: {other}"))),
    }
}

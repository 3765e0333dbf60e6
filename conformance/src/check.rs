//! Assertions of the cases.

use std::fmt::Debug;

use polychord_runtime_api::{Error, Result, TrapKind, Unmet};

use crate::failure::{Failure, Outcome};

/// Checks that two values are equal.
#[track_caller]
pub(crate) fn equal<T: PartialEq + Debug>(what: &str, got: T, expected: T) -> Outcome {
    holds(got == expected, || format!("{what}: got {got:?}, expected {expected:?}"))
}

/// Checks that two memories are equal; a failure names the first byte that differs.
#[track_caller]
pub(crate) fn same_bytes(what: &str, got: &[u8], expected: &[u8]) -> Outcome {
    equal(&format!("{what}: number of bytes"), got.len(), expected.len())?;
    let differs = || got.iter().zip(expected).position(|(got, expected)| got != expected);
    holds(got == expected, || {
        let at = differs().unwrap_or_default();
        format!("{what}: byte {at} is {}, expected {}", got[at], expected[at])
    })
}

/// Checks that a condition is true.
#[track_caller]
pub(crate) fn holds(condition: bool, message: impl FnOnce() -> String) -> Outcome {
    if condition { Ok(()) } else { Err(Failure::new(message())) }
}

/// Checks that a request is refused, with an error that contains all these texts.
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

/// Checks that a request is refused for what the engine lacks, and returns what that is.
#[track_caller]
pub(crate) fn unmet<T>(result: Result<T>) -> Result<Vec<Unmet>, Failure> {
    match refused(result, &[])? {
        Error::Unmet { unmet, .. } => Ok(unmet),
        other => Err(Failure::new(format!("expected Unmet, got: {other}"))),
    }
}

/// Checks that guest code trapped in this way and in this operation.
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

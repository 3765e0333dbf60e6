//! Wasmi's errors as Polychord's.

use polychord_runtime_api::{Error, TrapKind};
use wasmi::TrapCode;
use wasmi::errors::{ErrorKind, InstantiationError};

use crate::NAME;

pub(crate) fn compile(error: &wasmi::Error) -> Error {
    Error::Compile { engine: NAME, reason: error.to_string() }
}

/// The error of a call or of a start: a trap in all but strange cases.
pub(crate) fn call(error: &wasmi::Error, operation: &str) -> Error {
    Error::call(NAME, operation, kind(error), error)
}

fn kind(error: &wasmi::Error) -> Option<TrapKind> {
    match error.kind() {
        // An element segment that does not fit is a trap by the specification.
        ErrorKind::Instantiation(InstantiationError::ElementSegmentDoesNotFit { .. })
        // So is `table.copy` out of bounds, which has no trap code in wasmi.
        | ErrorKind::Table(_) => return Some(TrapKind::TableOutOfBounds),
        _ => {}
    }
    Some(match error.as_trap_code()? {
        TrapCode::UnreachableCodeReached => TrapKind::Unreachable,
        TrapCode::MemoryOutOfBounds => TrapKind::MemoryOutOfBounds,
        TrapCode::TableOutOfBounds => TrapKind::TableOutOfBounds,
        TrapCode::IndirectCallToNull => TrapKind::IndirectCallToNull,
        TrapCode::BadSignature => TrapKind::IndirectCallTypeMismatch,
        TrapCode::IntegerOverflow => TrapKind::IntegerOverflow,
        TrapCode::IntegerDivisionByZero => TrapKind::IntegerDivisionByZero,
        TrapCode::BadConversionToInteger => TrapKind::InvalidConversionToInteger,
        TrapCode::StackOverflow => TrapKind::StackOverflow,
        _ => TrapKind::Other,
    })
}

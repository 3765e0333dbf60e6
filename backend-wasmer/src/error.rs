//! Wasmer's errors as Polychord's.

use polychord_runtime_api::{Error, TrapKind};
use wasmer::sys::vm::TrapCode;
use wasmer::{CompileError, InstantiationError, RuntimeError};

use crate::NAME;

pub(crate) fn compile(error: &CompileError) -> Error {
    Error::Compile { engine: NAME, reason: error.to_string() }
}

pub(crate) fn instantiate(error: InstantiationError) -> Error {
    match error {
        InstantiationError::Start(error) => call(error, "the start function"),
        error => other(error),
    }
}

/// The error of something that cannot be made for a guest.
pub(crate) fn other(reason: impl ToString) -> Error {
    Error::Instantiate { engine: NAME, reason: reason.to_string() }
}

/// The error of a call: a trap in all but strange cases.
pub(crate) fn call(error: RuntimeError, operation: &str) -> Error {
    let reason = error.to_string();
    Error::call(NAME, operation, error.to_trap().map(kind), reason)
}

const fn kind(trap: TrapCode) -> TrapKind {
    match trap {
        TrapCode::UnreachableCodeReached => TrapKind::Unreachable,
        TrapCode::HeapAccessOutOfBounds => TrapKind::MemoryOutOfBounds,
        TrapCode::TableAccessOutOfBounds => TrapKind::TableOutOfBounds,
        TrapCode::IndirectCallToNull => TrapKind::IndirectCallToNull,
        TrapCode::BadSignature => TrapKind::IndirectCallTypeMismatch,
        TrapCode::IntegerOverflow => TrapKind::IntegerOverflow,
        TrapCode::IntegerDivisionByZero => TrapKind::IntegerDivisionByZero,
        TrapCode::BadConversionToInteger => TrapKind::InvalidConversionToInteger,
        TrapCode::StackOverflow => TrapKind::StackOverflow,
        _ => TrapKind::Other,
    }
}

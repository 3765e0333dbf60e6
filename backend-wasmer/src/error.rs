use std::time::Duration;

use polychord_runtime_api::{Error, TrapKind};
use wasmer::sys::vm::TrapCode;
use wasmer::{CompileError, InstantiationError, RuntimeError};

use crate::NAME;

pub(crate) fn compile(error: &CompileError) -> Error {
    Error::Compile { engine: NAME, reason: error.to_string() }
}

pub(crate) fn instantiate(error: InstantiationError, over: Option<Duration>) -> Error {
    match error {
        InstantiationError::Start(error) => call(error, "the start function", over),
        error => Error::Instantiate { engine: NAME, reason: error.to_string() },
    }
}

/// The error of a call: a trap in all but strange cases. `over` is the time limit if the call
/// took longer.
pub(crate) fn call(error: RuntimeError, operation: &str, over: Option<Duration>) -> Error {
    let reason = error.to_string();
    let Some(trap) = error.to_trap() else {
        return Error::Call { engine: NAME, operation: operation.to_owned(), reason };
    };
    if let Some(limit) = over {
        // Not only for `HostInterrupt`: an interrupted load or store looks as if it had trapped.
        let kind = TrapKind::DeadlineExceeded(limit);
        return Error::Trap { engine: NAME, operation: operation.to_owned(), kind };
    }
    let kind = match trap {
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
    };
    Error::Trap { engine: NAME, operation: operation.to_owned(), kind }
}

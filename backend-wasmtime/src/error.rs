use polychord_runtime_api::{Error, TrapKind};
use wasmtime::Trap;

use crate::NAME;

pub(crate) fn compile(error: &wasmtime::Error) -> Error {
    Error::Compile { engine: NAME, reason: chain(error) }
}

pub(crate) fn instantiate(error: &wasmtime::Error) -> Error {
    Error::Instantiate { engine: NAME, reason: chain(error) }
}

/// The error of a call: a trap in all but strange cases.
pub(crate) fn call(error: &wasmtime::Error, operation: &str) -> Error {
    let Some(trap) = error.downcast_ref::<Trap>() else {
        if operation == "the start function" {
            return instantiate(error);
        }
        return Error::Call { engine: NAME, operation: operation.to_owned(), reason: chain(error) };
    };
    let kind = match trap {
        Trap::UnreachableCodeReached => TrapKind::Unreachable,
        Trap::MemoryOutOfBounds => TrapKind::MemoryOutOfBounds,
        Trap::TableOutOfBounds => TrapKind::TableOutOfBounds,
        Trap::IndirectCallToNull => TrapKind::IndirectCallToNull,
        Trap::BadSignature => TrapKind::IndirectCallTypeMismatch,
        Trap::IntegerOverflow => TrapKind::IntegerOverflow,
        Trap::IntegerDivisionByZero => TrapKind::IntegerDivisionByZero,
        Trap::BadConversionToInteger => TrapKind::InvalidConversionToInteger,
        Trap::StackOverflow => TrapKind::StackOverflow,
        _ => TrapKind::Other,
    };
    Error::Trap { engine: NAME, operation: operation.to_owned(), kind }
}

fn chain(error: &wasmtime::Error) -> String {
    format!("{error:#}")
}

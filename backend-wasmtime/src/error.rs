//! Wasmtime's errors as Polychord's.

use polychord_runtime_api::spi::Item;
use polychord_runtime_api::{Error, TrapKind};
use wasmtime::Trap;

use crate::NAME;

pub(crate) fn compile(error: &wasmtime::Error) -> Error {
    Error::Compile { engine: NAME, reason: chain(error) }
}

pub(crate) fn instantiate(error: &wasmtime::Error) -> Error {
    Error::Instantiate { engine: NAME, reason: chain(error) }
}

/// The error of an instantiation, which may be a trap of the start function.
pub(crate) fn start(error: &wasmtime::Error) -> Error {
    if error.is::<Trap>() { call(error, "the start function") } else { instantiate(error) }
}

/// The error of an import of a kind that this crate does not know.
pub(crate) fn unknown(item: &Item) -> Error {
    Error::Instantiate { engine: NAME, reason: format!("it imports {item:?}") }
}

/// The error of a call: a trap in all but strange cases.
pub(crate) fn call(error: &wasmtime::Error, operation: &str) -> Error {
    let trap = error.downcast_ref::<Trap>().map(kind);
    Error::call(NAME, operation, trap, chain(error))
}

const fn kind(trap: &Trap) -> TrapKind {
    match trap {
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
    }
}

fn chain(error: &wasmtime::Error) -> String {
    format!("{error:#}")
}

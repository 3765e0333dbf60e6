//! WasmEdge's errors as Polychord's.

use polychord_runtime_api::{Error, TrapKind};
use wasmedge_sdk::error::WasmEdgeError;
use wasmedge_sys::ffi;

use crate::NAME;

pub(crate) fn compile(reason: &str) -> Error {
    Error::Compile { engine: NAME, reason: reason.to_owned() }
}

/// The error of an instantiation, which may be a trap of the start function.
pub(crate) fn instantiate(error: &WasmEdgeError) -> Error {
    if let WasmEdgeError::Core(core) = error {
        let code = ffi::WasmEdge_Result::from(core.clone()).Code;
        let trap = call(code, "the start function");
        if matches!(trap, Error::Trap { .. }) {
            return trap;
        }
    }
    Error::Instantiate { engine: NAME, reason: error.to_string() }
}

/// The error of a call, from its code: a trap in all but strange cases.
pub(crate) fn call(code: u32, operation: &str) -> Error {
    Error::call(NAME, operation, kind(code), format!("error {code:#06x} of WasmEdge"))
}

const fn kind(code: u32) -> Option<TrapKind> {
    Some(match code {
        ffi::WasmEdge_ErrCode_Unreachable => TrapKind::Unreachable,
        ffi::WasmEdge_ErrCode_MemoryOutOfBounds | ffi::WasmEdge_ErrCode_DataSegDoesNotFit => {
            TrapKind::MemoryOutOfBounds
        }
        ffi::WasmEdge_ErrCode_TableOutOfBounds
        | ffi::WasmEdge_ErrCode_ElemSegDoesNotFit
        | ffi::WasmEdge_ErrCode_UndefinedElement => TrapKind::TableOutOfBounds,
        ffi::WasmEdge_ErrCode_UninitializedElement => TrapKind::IndirectCallToNull,
        ffi::WasmEdge_ErrCode_IndirectCallTypeMismatch => TrapKind::IndirectCallTypeMismatch,
        ffi::WasmEdge_ErrCode_IntegerOverflow => TrapKind::IntegerOverflow,
        ffi::WasmEdge_ErrCode_DivideByZero => TrapKind::IntegerDivisionByZero,
        ffi::WasmEdge_ErrCode_InvalidConvToInt => TrapKind::InvalidConversionToInteger,
        // The phases of WasmEdge number their errors by the hundred; execution is the fourth.
        _ if code >> 8 == 4 => TrapKind::Other,
        _ => return None,
    })
}

/// The code of an error, if it is one.
#[allow(unsafe_code, reason = "the C interface")]
pub(crate) fn check(result: ffi::WasmEdge_Result) -> Result<(), u32> {
    // SAFETY: reads a number in a plain value.
    if unsafe { ffi::WasmEdge_ResultOK(result) } {
        return Ok(());
    }
    // SAFETY: as above.
    Err(unsafe { ffi::WasmEdge_ResultGetCode(result) })
}

//! What the backends' translations have in common: values, calls of host functions, and the errors
//! of calls and of growth.

use std::sync::Arc;

use polychord_abi::PAGE;

use crate::error::{Error, TrapKind};
use crate::host::Host;
use crate::memory::LinearMemories;
use crate::spi::imports::HostFunction;
use crate::value::Value;

/// Most parameters of a host function.
const MAX_PARAMS: usize = 4;

impl Value {
    /// The value as an engine represents it, made by the function for its type.
    pub fn convert<T>(
        self,
        i32: impl FnOnce(i32) -> T,
        i64: impl FnOnce(i64) -> T,
        f32: impl FnOnce(f32) -> T,
        f64: impl FnOnce(f64) -> T,
        v128: impl FnOnce(u128) -> T,
    ) -> T {
        match self {
            Self::I32(value) => i32(value),
            Self::I64(value) => i64(value),
            Self::F32(value) => f32(value),
            Self::F64(value) => f64(value),
            Self::V128(value) => v128(value),
        }
    }
}

impl HostFunction {
    /// Serves a call, as [`call`](Self::call) does, with parameters that the engine yields one by
    /// one. Allocates nothing.
    pub fn serve(
        &self,
        host: &Arc<Host>,
        guest: &mut dyn LinearMemories,
        params: impl IntoIterator<Item = Value>,
    ) -> Value {
        let mut args = [Value::I32(0); MAX_PARAMS];
        let mut len = 0;
        for (arg, param) in args.iter_mut().zip(params) {
            *arg = param;
            len += 1;
        }
        self.call(host, guest, &args[..len])
    }
}

impl Error {
    /// The error of a call of the guest: a trap, or another failure of the engine if `trap` is none.
    #[must_use]
    pub fn call(
        engine: &'static str,
        operation: &str,
        trap: Option<TrapKind>,
        reason: impl ToString,
    ) -> Self {
        let operation = operation.to_owned();
        match trap {
            Some(kind) => Self::Trap { engine, operation, kind },
            None => Self::Call { engine, operation, reason: reason.to_string() },
        }
    }

    /// The error of a call of an export that the instance does not have.
    #[must_use]
    pub fn missing_export(export: &str) -> Self {
        Self::MissingExport { export: export.to_owned(), available: Vec::new() }
    }

    /// The error of an instance whose memory does not grow by `pages` pages of 64 KiB.
    #[must_use]
    pub fn cannot_grow(engine: &'static str, pages: u64, reason: impl ToString) -> Self {
        Self::OutOfMemory {
            engine,
            what: "growing the guest's memory",
            asked: pages.saturating_mul(PAGE),
            reason: reason.to_string(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spi::imports::HOST_FUNCTIONS;
    use crate::value::AddressType;

    #[test]
    fn no_host_function_has_more_parameters() {
        for function in HOST_FUNCTIONS {
            assert!(function.ty(AddressType::I64).params.len() <= MAX_PARAMS, "{}", function.name);
        }
    }
}

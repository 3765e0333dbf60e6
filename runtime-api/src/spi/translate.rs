//! What the backends' translations have in common: values, and the errors of calls and of growth.

use polychord_abi::PAGE;

use crate::error::{Error, TrapKind};
use crate::module::GlobalAt;
use crate::value::Value;

impl Value {
    /// The value as an engine represents it, made by the function for its type.
    #[inline]
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

/// Room for the values of a call: on the stack, unless they are very many.
#[inline]
pub fn with_values<T>(count: usize, run: impl FnOnce(&mut [Value]) -> T) -> T {
    const FEW: usize = 4;
    const MANY: usize = 32;
    match count {
        0..=FEW => run(&mut [Value::I32(0); FEW][..count]),
        5..=MANY => run(&mut [Value::I32(0); MANY][..count]),
        _ => run(&mut vec![Value::I32(0); count]),
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

    /// The error of an engine that does not have a global which its module has.
    #[must_use]
    pub fn lost_global(engine: &'static str, at: GlobalAt<'_>) -> Self {
        let reason = "the engine does not have this global".to_owned();
        Self::Call { engine, operation: format!("{at:?}"), reason }
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

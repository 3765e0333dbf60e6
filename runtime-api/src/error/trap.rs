//! Why a guest was stopped.

use std::fmt;
use std::time::Duration;

/// Why a guest was stopped.
///
/// ```
/// use polychord_runtime_api::{Error, Runtime, TrapKind};
///
/// fn is_too_slow(guest: &mut dyn Runtime) -> bool {
///     let result = guest.call("work", &[]);
///     matches!(result, Err(Error::Trap { kind: TrapKind::DeadlineExceeded(_), .. }))
/// }
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum TrapKind {
    /// `unreachable` was executed (a panic in a Rust guest, for one).
    Unreachable,
    /// A load, store or bulk operation left its memory.
    MemoryOutOfBounds,
    /// A table access left its table.
    TableOutOfBounds,
    /// An indirect call met an empty table slot.
    IndirectCallToNull,
    /// An indirect call met a function of another type.
    IndirectCallTypeMismatch,
    /// An integer operation overflowed.
    IntegerOverflow,
    /// An integer was divided by zero.
    IntegerDivisionByZero,
    /// A float that is not a number or too large was converted to an integer.
    InvalidConversionToInteger,
    /// The guest used up its stack.
    StackOverflow,
    /// The call took longer than [`Limits::call_time`](crate::Limits::call_time).
    DeadlineExceeded(Duration),
    /// The call was stopped by an [`Interrupter`](crate::Interrupter).
    Interrupted,
    /// Another trap, which only this engine has.
    Other,
}

impl fmt::Display for TrapKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unreachable => f.write_str("unreachable code was reached"),
            Self::MemoryOutOfBounds => f.write_str("memory access out of bounds"),
            Self::TableOutOfBounds => f.write_str("table access out of bounds"),
            Self::IndirectCallToNull => f.write_str("indirect call to an empty table slot"),
            Self::IndirectCallTypeMismatch => {
                f.write_str("indirect call to a function of another type")
            }
            Self::IntegerOverflow => f.write_str("integer overflow"),
            Self::IntegerDivisionByZero => f.write_str("integer division by zero"),
            Self::InvalidConversionToInteger => f.write_str("invalid conversion to integer"),
            Self::StackOverflow => f.write_str("stack overflow"),
            Self::DeadlineExceeded(limit) => {
                write!(f, "the time limit of {} ms was exceeded", limit.as_millis())
            }
            Self::Interrupted => f.write_str("it was interrupted"),
            Self::Other => f.write_str("a trap that only this engine has"),
        }
    }
}

//! Operators and their places.

use wasmparser::Operator;

/// An operator, and where its bytes are in the module.
pub(crate) struct Placed<'a> {
    pub(crate) operator: Operator<'a>,
    pub(crate) start: usize,
    pub(crate) end: usize,
}

/// A place in the module, as an index.
pub(crate) fn position(at: u64) -> usize {
    usize::try_from(at).unwrap_or(usize::MAX)
}

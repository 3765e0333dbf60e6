//! What these engines are known to fail.

use polychord_conformance::Expectations;

/// Nothing.
pub(crate) const NONE: Expectations = Expectations::NONE;

/// What an engine is known to fail.
pub(crate) fn of(_engine: &str) -> Expectations {
    NONE
}

//! What WasmEdge is known to fail, in both modes.

use polychord_conformance::ExpectedFailure;

/// An official test of rounding, or of minimum and maximum, that WasmEdge fails.
pub(crate) const fn quiet_nan(case: &'static str) -> ExpectedFailure {
    ExpectedFailure::new(case, "ArithmeticNan").because(
        "a signaling NaN stays one where the specification makes it quiet",
        "https://github.com/WasmEdge/WasmEdge/pull/5271",
    )
}

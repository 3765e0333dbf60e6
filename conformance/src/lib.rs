//! The promises of Polychord as test cases, for vendors who add a WebAssembly engine to it.
//!
//! A backend's whole test is one file with `harness = false`:
//!
//! ```ignore
//! polychord_conformance::main!(MyEngine::new());
//! ```
//!
//! [`all`] lists the cases. Each is a plain public function over [`Engine`], with a promise
//! and the capabilities that it needs. Where an engine does not claim these, the case is not
//! skipped: it checks instead that asking for them is refused, clearly. What an engine is
//! known to fail is listed in [`Expectations`], with the reason.

mod case;
pub mod cases;
mod check;
#[cfg(feature = "differential")]
pub mod differential;
mod expectation;
mod failure;
mod guest;
pub mod record;
mod refusal;
mod run;
mod runner;
pub mod spec;
mod spec_trial;

pub use case::Case;
pub use cases::{VERSION, all};
pub use expectation::{Expectations, ExpectedFailure, SpecFloor};
pub use failure::{Failure, Outcome};
pub use polychord_runtime_api::{Engine, Result};
pub use runner::run;

/// Defines the `main` function of a backend's conformance test, given an expression that
/// makes the engine (a [`Result`] of an [`Engine`]) and, if some cases are known to fail, the
/// [`Expectations`].
#[macro_export]
macro_rules! main {
    ($engine:expr $(,)?) => {
        $crate::main!($engine, $crate::Expectations::default());
    };
    ($engine:expr, $expectations:expr $(,)?) => {
        fn main() -> ::std::process::ExitCode {
            $crate::run($engine, $expectations)
        }
    };
}

//! The promises of Polychord as test cases, for whoever adapts a WebAssembly engine to it.
//!
//! A backend's whole test is one file with `harness = false`:
//!
//! ```ignore
//! polychord_conformance::main!(MyEngine::new());
//! ```
//!
//! [`all`] lists the cases. Each is a plain public function over [`Engine`], with a promise
//! and the capabilities that it needs. Where an engine does not claim these, the case is not
//! skipped: it checks instead that asking for them is refused, clearly.

mod case;
pub mod cases;
mod check;
mod guest;
mod refusal;

pub use case::{Case, Failure, Outcome};
pub use polychord_runtime_api::{Engine, Result};

use std::process::ExitCode;
use std::sync::Arc;

use libtest_mimic::{Arguments, Failed, Trial};

/// Defines the `main` function of a backend's conformance test, given an expression that
/// makes the engine: a [`Result`] of an [`Engine`].
#[macro_export]
macro_rules! main {
    ($engine:expr) => {
        fn main() -> ::std::process::ExitCode {
            $crate::run($engine)
        }
    };
}

/// All cases, group by group.
#[must_use]
pub fn all() -> Vec<Case> {
    cases::GROUPS.concat()
}

/// Runs all cases on an engine, with the command line of Rust's own test harness: filters,
/// `--list`, `--exact`, `--test-threads` and so on.
#[must_use]
pub fn run<E: Engine + 'static>(engine: Result<E>) -> ExitCode {
    let arguments = Arguments::from_args();
    let trials = match engine {
        Ok(engine) => {
            let engine: Arc<dyn Engine> = Arc::new(engine);
            all().into_iter().map(|case| trial(case, engine.clone())).collect()
        }
        Err(error) => vec![Trial::test("engine", move || Err(error.into()))],
    };
    libtest_mimic::run(&arguments, trials).exit_code()
}

fn trial(case: Case, engine: Arc<dyn Engine>) -> Trial {
    let met = case.needs.check(engine.capabilities()).is_ok();
    let kind = if met { "" } else { "refused" };
    let run = move || {
        let outcome =
            if met { (case.run)(&*engine) } else { refusal::check(&*engine, &case.needs) };
        outcome.map_err(|failure| Failed::from(format!("promised: {}\n{failure}", case.promise)))
    };
    Trial::test(case.name, run).with_kind(kind)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_case_has_a_name_of_its_own_and_a_promise() {
        let mut names = std::collections::BTreeSet::new();
        for case in all() {
            assert!(names.insert(case.name), "{} comes twice", case.name);
            assert!(case.name.contains('/'), "{} is in no group", case.name);
            assert!(!case.promise.is_empty() && !case.promise.ends_with('.'), "{}", case.name);
        }
    }
}

//! Runs the cases on an engine, with the command line of Rust's own test harness.

use std::io::Write;
use std::process::ExitCode;
use std::sync::Arc;

use libtest_mimic::{Arguments, Failed, Trial};
use polychord_runtime_api::{Capabilities, Engine, Result};

use crate::{Case, Expectations, ExpectedFailure, Outcome, VERSION, all, refusal};

/// Runs all cases on an engine: filters, `--list`, `--exact`, `--test-threads` and so on are
/// those of Rust's own tests.
#[must_use]
pub fn run<E: Engine + 'static>(engine: Result<E>, expectations: Expectations) -> ExitCode {
    let arguments = Arguments::from_args();
    let engine: Arc<dyn Engine> = match engine {
        Ok(engine) => Arc::new(engine),
        Err(error) => {
            let refused = Trial::test("engine", move || Err(error.into()));
            return libtest_mimic::run(&arguments, vec![refused]).exit_code();
        }
    };
    if !arguments.list {
        announce(engine.capabilities());
    }
    let mut trials: Vec<_> =
        all().into_iter().map(|case| trial(case, &engine, &expectations)).collect();
    trials.extend(unknown_entry(&expectations));
    libtest_mimic::run(&arguments, trials).exit_code()
}

/// How a case is run on an engine.
#[derive(Clone, Copy)]
enum Mode {
    /// As it is.
    Plain,
    /// Its needs are not met; that they are refused is checked in its place.
    Refused,
    /// It must fail.
    ExpectedFailure(&'static ExpectedFailure),
}

impl Mode {
    fn of(case: &Case, engine: &Capabilities, expectations: &Expectations) -> Self {
        if case.needs.check(engine).is_err() {
            return Self::Refused;
        }
        expectations.of(case.name).map_or(Self::Plain, Self::ExpectedFailure)
    }

    const fn name(self) -> &'static str {
        match self {
            Self::Plain => "",
            Self::Refused => "refused",
            Self::ExpectedFailure(_) => "expected failure",
        }
    }

    fn run(self, case: &Case, engine: &dyn Engine) -> Outcome {
        match self {
            Self::Plain => (case.run)(engine),
            Self::Refused => refusal::check(engine, &case.needs),
            Self::ExpectedFailure(expected) => expected.judge((case.run)(engine)),
        }
    }
}

fn trial(case: Case, engine: &Arc<dyn Engine>, expectations: &Expectations) -> Trial {
    let mode = Mode::of(&case, engine.capabilities(), expectations);
    let (name, engine) = (case.name, engine.clone());
    let run = move || {
        let outcome = mode.run(&case, &*engine);
        outcome.map_err(|failure| Failed::from(format!("promised: {}\n{failure}", case.promise)))
    };
    Trial::test(name, run).with_kind(mode.name())
}

/// A trial that fails, if a case is listed that does not exist.
fn unknown_entry(expectations: &Expectations) -> Option<Trial> {
    let exists = |name: &str| all().iter().any(|case| case.name == name);
    let entry = expectations.unknown(exists)?;
    let message = format!("{} is listed as an expected failure, but is no case", entry.case);
    Some(Trial::test("expectations", move || Err(message.into())))
}

/// Says what is about to run. Whether anybody can read it is none of the suite's business.
fn announce(engine: &Capabilities) {
    let Capabilities { engine, version, execution, .. } = engine;
    let line = format!("\nconformance suite {VERSION} on {engine} {version} ({execution})");
    _ = writeln!(std::io::stdout(), "{line}");
}

//! Runs the cases on an engine, with the command line of Rust's own test harness.

use std::io::Write;
use std::process::ExitCode;
use std::sync::Arc;

use libtest_mimic::{Arguments, Failed, Trial};
use polychord_runtime_api::{Capabilities, Engine, Result};

use crate::spec::SUITES;
use crate::{Case, Expectations, VERSION, all, spec_trial};

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
    trials.extend(SUITES.iter().map(|suite| spec_trial::trial(*suite, &engine, expectations)));
    trials.extend(unknown_entry(&expectations));
    libtest_mimic::run(&arguments, trials).exit_code()
}

fn trial(case: Case, engine: &Arc<dyn Engine>, expectations: &Expectations) -> Trial {
    let applies = case.applies_to(&**engine);
    let expected = expectations.of(case.name).filter(|_| applies);
    let kind = match expected {
        Some(_) => "expected failure",
        None if applies => "",
        None => "refused",
    };
    let (name, engine) = (case.name, engine.clone());
    let run = move || {
        let outcome = case.check(&*engine);
        let outcome = match expected {
            Some(expected) => expected.judge(outcome),
            None => outcome,
        };
        outcome.map_err(|failure| Failed::from(format!("promised: {}\n{failure}", case.promise)))
    };
    Trial::test(name, run).with_kind(kind)
}

/// A trial that fails, if a case is listed that does not exist.
fn unknown_entry(expectations: &Expectations) -> Option<Trial> {
    let exists = |name: &str| {
        name.starts_with(spec_trial::PREFIX) || all().iter().any(|case| case.name == name)
    };
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

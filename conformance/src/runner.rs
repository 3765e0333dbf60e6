//! Runs the cases on an engine, with the command line of Rust's own test harness.

use std::io::Write;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Instant;

use libtest_mimic::{Arguments, Trial};
use polychord_runtime_api::{Capabilities, Engine, Error, Result};

use crate::case::Case;
use crate::cases::{VERSION, all};
use crate::expectation::Expectations;
use crate::record::{self, Line, Mode, Recorder};
use crate::run::{Run, millis};
use crate::spec::SUITES;
use crate::spec_trial;

/// Runs all cases on an engine: filters, `--list`, `--exact`, `--test-threads` and so on are
/// those of Rust's own tests.
#[must_use]
pub fn run<E: Engine + 'static>(engine: Result<E>, expectations: Expectations) -> ExitCode {
    let arguments = Arguments::from_args();
    let engine = match engine {
        Ok(engine) => engine,
        Err(error) => return fails(&arguments, "engine", error),
    };
    let recorder = match Recorder::from_env(engine.capabilities()) {
        Ok(recorder) => recorder,
        Err(error) => return fails(&arguments, record::VARIABLE, error),
    };
    let run = Run { engine: Arc::new(engine), expectations, recorder };
    if arguments.list {
        return libtest_mimic::run(&arguments, trials(&run)).exit_code();
    }
    announce(&run, &arguments);
    let start = Instant::now();
    let conclusion = libtest_mimic::run(&arguments, trials(&run));
    run.recorder.write(&Line::End { millis: millis(start) });
    conclusion.exit_code()
}

/// A run of one trial that fails.
fn fails(arguments: &Arguments, name: &str, error: impl ToString) -> ExitCode {
    let message = error.to_string();
    let trial = Trial::test(name, move || Err(message.into()));
    libtest_mimic::run(arguments, vec![trial]).exit_code()
}

fn trials(run: &Run) -> Vec<Trial> {
    let cases = all().into_iter().map(|case| trial(run, case));
    let suites = SUITES.iter().map(|suite| spec_trial::trial(*suite, run));
    cases.chain(suites).chain(unknown_entry(run)).collect()
}

fn trial(run: &Run, case: Case) -> Trial {
    let (run, name, promise) = (run.clone(), case.name, case.promise);
    let mode = mode(&run, &case);
    let kind = match mode {
        Mode::Plain => "",
        Mode::Refused(_) => "refused",
        Mode::ExpectedFailure { .. } => "expected failure",
    };
    let check = move || {
        run.recorded(name, promise, mode.clone(), || {
            let outcome = case.check(&*run.engine);
            let outcome = match run.expectations.of(name) {
                Some(expected) if case.applies_to(&*run.engine) => expected.judge(outcome),
                _ => outcome,
            };
            outcome.map_err(|failure| format!("promised: {promise}\n{failure}"))
        })
    };
    Trial::test(name, check).with_kind(kind)
}

fn mode(run: &Run, case: &Case) -> Mode {
    if let Err(Error::Unmet { unmet, .. }) = case.needs.check(run.engine.capabilities()) {
        let unmet: Vec<_> = unmet.iter().map(ToString::to_string).collect();
        return Mode::Refused(unmet.join("; "));
    }
    run.expectations.of(case.name).map_or(Mode::Plain, |expected| Mode::ExpectedFailure {
        reason: expected.reason.to_owned(),
        link: expected.link.to_owned(),
    })
}

/// A trial that fails, if a case is listed that does not exist.
fn unknown_entry(run: &Run) -> Option<Trial> {
    let exists = |name: &str| {
        name.starts_with(spec_trial::PREFIX) || all().iter().any(|case| case.name == name)
    };
    let entry = run.expectations.unknown(exists)?;
    let message = format!("{} is listed as an expected failure, but is no case", entry.case);
    Some(Trial::test("expectations", move || Err(message.into())))
}

/// Prints and records what is about to run. A closed stdout does not fail the suite.
fn announce(run: &Run, arguments: &Arguments) {
    let capabilities = run.engine.capabilities();
    let Capabilities { engine, version, execution, .. } = &**capabilities;
    let line = format!("\nconformance suite {VERSION} on {engine} {version} ({execution})");
    _ = writeln!(std::io::stdout(), "{line}");
    let cases = all().into_iter().map(|case| case.name.to_owned());
    let suites = SUITES.iter().map(|suite| format!("{}{}", spec_trial::PREFIX, suite.name));
    run.recorder.write(&Line::Start(record::Start {
        suite: VERSION.to_owned(),
        engine: (*engine).to_owned(),
        version: (*version).to_owned(),
        execution: (*execution).to_owned(),
        capabilities: serde_json::to_value(&**capabilities).unwrap_or_default(),
        trials: cases.chain(suites).filter(|name| selects(arguments, name)).collect(),
    }));
}

/// Whether a trial is among those that the command line asks for.
fn selects(arguments: &Arguments, name: &str) -> bool {
    let matches = |text: &String| if arguments.exact { name == text } else { name.contains(text) };
    arguments.filter.as_ref().is_none_or(matches) && !arguments.skip.iter().any(matches)
}

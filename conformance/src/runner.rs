//! Runs the cases on an engine, with the command line of Rust's own test harness.

use std::io::Write;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Instant;

use libtest_mimic::{Arguments, Failed, Trial};
use polychord_runtime_api::{Capabilities, Engine, Error, Result};

use crate::record::{self, Line, Mode, Recorder};
use crate::spec::SUITES;
use crate::{Case, Expectations, VERSION, all, spec_trial};

/// Runs all cases on an engine: filters, `--list`, `--exact`, `--test-threads` and so on are
/// those of Rust's own tests.
#[must_use]
pub fn run<E: Engine + 'static>(engine: Result<E>, expectations: Expectations) -> ExitCode {
    let arguments = Arguments::from_args();
    let trials = match (engine, Recorder::from_env()) {
        (Ok(engine), Ok(recorder)) => {
            let run = Run { engine: Arc::new(engine), expectations, recorder };
            if !arguments.list {
                run.announce();
            }
            run.trials()
        }
        (Err(error), _) => vec![Trial::test("engine", move || Err(error.into()))],
        (_, Err(error)) => vec![Trial::test(record::VARIABLE, move || Err(error.into()))],
    };
    libtest_mimic::run(&arguments, trials).exit_code()
}

/// What all trials of a run share.
#[derive(Clone)]
pub(crate) struct Run {
    pub(crate) engine: Arc<dyn Engine>,
    pub(crate) expectations: Expectations,
    pub(crate) recorder: Recorder,
}

impl Run {
    fn trials(&self) -> Vec<Trial> {
        let cases = all().into_iter().map(|case| self.case(case));
        let suites = SUITES.iter().map(|suite| spec_trial::trial(*suite, self));
        cases.chain(suites).chain(self.unknown_entry()).collect()
    }

    fn case(&self, case: Case) -> Trial {
        let (run, name, promise) = (self.clone(), case.name, case.promise);
        let mode = self.mode(&case);
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

    fn mode(&self, case: &Case) -> Mode {
        if let Err(Error::Unmet { unmet, .. }) = case.needs.check(self.engine.capabilities()) {
            let unmet: Vec<_> = unmet.iter().map(ToString::to_string).collect();
            return Mode::Refused(unmet.join("; "));
        }
        self.expectations.of(case.name).map_or(Mode::Plain, |expected| Mode::ExpectedFailure {
            reason: expected.reason.to_owned(),
            link: expected.link.to_owned(),
        })
    }

    /// Runs a trial and writes down how it ended.
    pub(crate) fn recorded(
        &self,
        name: &str,
        promise: &str,
        mode: Mode,
        run: impl FnOnce() -> Result<(), String>,
    ) -> Result<(), Failed> {
        let start = Instant::now();
        let outcome = run();
        self.recorder.write(&Line::Trial(record::Trial {
            name: name.to_owned(),
            promise: promise.to_owned(),
            mode,
            failure: outcome.clone().err(),
            millis: u64::try_from(start.elapsed().as_millis()).unwrap_or(u64::MAX),
        }));
        outcome.map_err(Failed::from)
    }

    /// A trial that fails, if a case is listed that does not exist.
    fn unknown_entry(&self) -> Option<Trial> {
        let exists = |name: &str| {
            name.starts_with(spec_trial::PREFIX) || all().iter().any(|case| case.name == name)
        };
        let entry = self.expectations.unknown(exists)?;
        let message = format!("{} is listed as an expected failure, but is no case", entry.case);
        Some(Trial::test("expectations", move || Err(message.into())))
    }

    /// Says what is about to run. Whether anybody can read it is none of the suite's business.
    fn announce(&self) {
        let capabilities = self.engine.capabilities();
        let Capabilities { engine, version, execution, .. } = &**capabilities;
        let line = format!("\nconformance suite {VERSION} on {engine} {version} ({execution})");
        _ = writeln!(std::io::stdout(), "{line}");
        let cases = all().into_iter().map(|case| case.name.to_owned());
        let suites = SUITES.iter().map(|suite| format!("{}{}", spec_trial::PREFIX, suite.name));
        self.recorder.write(&Line::Start(record::Start {
            suite: VERSION.to_owned(),
            engine: (*engine).to_owned(),
            version: (*version).to_owned(),
            execution: (*execution).to_owned(),
            capabilities: serde_json::to_value(&**capabilities).unwrap_or_default(),
            trials: cases.chain(suites).collect(),
        }));
    }
}

//! A part of the official tests as a trial of the run.

use std::collections::BTreeSet;
use std::io::Write;

use libtest_mimic::Trial;

use crate::Expectations;
use crate::record::{Line, Mode};
use crate::runner::Run;
use crate::spec::{Counts, Suite};

/// What the names of these trials begin with, and those of expected failures: `spec/SUITE/FILE`.
pub(crate) const PREFIX: &str = "spec/";

const PROMISE: &str = "no directive of the official tests fails, and no fewer pass than stated";

/// A trial that runs a suite: no directive fails but those that are expected to, and as many
/// pass as the backend says.
pub(crate) fn trial(suite: Suite, run: &Run) -> Trial {
    let run = run.clone();
    let name = format!("{PREFIX}{}", suite.name);
    Trial::test(name.clone(), move || {
        run.recorded(&name, PROMISE, Mode::Plain, || {
            let counts = suite.run(&*run.engine);
            // Whether anybody can read it is none of the suite's business.
            _ = writeln!(std::io::stdout(), "{name}: {counts}");
            let outcome = judge(suite, &counts, run.expectations);
            run.recorder.write(&Line::Spec { suite: suite.name.to_owned(), counts });
            outcome
        })
    })
}

fn judge(suite: Suite, counts: &Counts, expectations: Expectations) -> Result<(), String> {
    let mut wrong = Vec::new();
    let mut met = BTreeSet::new();
    for failure in &counts.failures {
        let case = format!("{PREFIX}{}/{}", suite.name, failure.file);
        match expectations.of(&case).filter(|expected| failure.message.contains(expected.says)) {
            Some(expected) => _ = met.insert(expected.case),
            None => wrong.push(failure.to_string()),
        }
    }
    let prefix = format!("{PREFIX}{}/", suite.name);
    for expected in expectations.failures.iter().filter(|entry| entry.case.starts_with(&prefix)) {
        if !met.contains(expected.case) {
            wrong.push(format!("{} is listed as an expected failure, but passed", expected.case));
        }
    }
    let floor = expectations.floor(suite.name);
    if counts.passed < floor {
        wrong.push(format!("only {} directives passed, not {floor}", counts.passed));
    }
    if wrong.is_empty() { Ok(()) } else { Err(summary(&wrong)) }
}

/// How many failures a message lists.
const SHOWN: usize = 40;

/// The first of many, and how many there are.
fn summary(wrong: &[String]) -> String {
    let shown: Vec<_> = wrong.iter().take(SHOWN).map(String::as_str).collect();
    format!("{} things are wrong; the first of them:\n{}", wrong.len(), shown.join("\n"))
}

//! A part of the official tests as a trial of the run.

use std::collections::BTreeSet;
use std::io::Write;

use libtest_mimic::Trial;

use crate::record::{Line, Mode};
use crate::run::Run;
use crate::spec::{Counts, Suite};
use crate::{Expectations, ExpectedFailure};

/// What the names of these trials begin with, and those of expected failures: `spec/SUITE/FILE`.
pub(crate) const PREFIX: &str = "spec/";

const PROMISE: &str = "no directive of the official tests fails, and no fewer pass than stated";

/// A trial that runs a suite: no directive fails but those that are expected to, and as many
/// pass as the backend says.
pub(crate) fn trial(suite: Suite, run: &Run) -> Trial {
    let run = run.clone();
    let name = format!("{PREFIX}{}", suite.name);
    Trial::test(name.clone(), move || {
        run.recorded(&name, PROMISE, mode(suite, run.expectations), || {
            let counts = suite.run(&*run.engine);
            // A closed stdout does not fail the suite.
            _ = writeln!(std::io::stdout(), "{name}: {counts}");
            let outcome = judge(suite, &counts, run.expectations);
            run.recorder.write(&Line::Spec { suite: suite.name.to_owned(), counts });
            outcome
        })
    })
}

/// A suite is known to fail if some of its files are, for their reasons.
fn mode(suite: Suite, expectations: Expectations) -> Mode {
    let listed = |entry: &&ExpectedFailure| entry.case.starts_with(&prefix(suite));
    let known = || expectations.failures.iter().filter(listed);
    if known().next().is_none() {
        return Mode::Plain;
    }
    let files: Vec<_> = known().map(|entry| &entry.case[prefix(suite).len()..]).collect();
    let reasons: BTreeSet<_> = known().map(|entry| entry.reason).collect();
    let links: BTreeSet<_> = known().map(|entry| entry.link).collect();
    let join = |parts: BTreeSet<&str>| parts.into_iter().collect::<Vec<_>>().join("; ");
    Mode::ExpectedFailure {
        reason: format!("{} ({})", join(reasons), files.join(", ")),
        link: join(links),
    }
}

/// What the names of a suite's expected failures begin with.
fn prefix(suite: Suite) -> String {
    format!("{PREFIX}{}/", suite.name)
}

fn judge(suite: Suite, counts: &Counts, expectations: Expectations) -> Result<(), String> {
    let mut wrong = Vec::new();
    let mut met = BTreeSet::new();
    for failure in &counts.failures {
        let case = format!("{}{}", prefix(suite), failure.file);
        match expectations.of(&case).filter(|expected| failure.message.contains(expected.says)) {
            Some(expected) => _ = met.insert(expected.case),
            None => wrong.push(failure.to_string()),
        }
    }
    let listed = |entry: &&ExpectedFailure| entry.case.starts_with(&prefix(suite));
    for expected in expectations.failures.iter().filter(listed) {
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::SpecFloor;
    use crate::spec::{Failure, SUITES};

    const EXPECTATIONS: Expectations = Expectations {
        failures: &[ExpectedFailure {
            case: "spec/memory64/a.wast",
            says: "13",
            reason: "it cannot count",
            link: "https://x",
        }],
        spec_floors: &[SpecFloor { suite: "memory64", passed: 10 }],
    };

    fn verdict(passed: usize, failures: &[(&str, &str)]) -> Result<(), String> {
        let failure = |(file, message): &(&str, &str)| Failure {
            file: (*file).to_owned(),
            line: 7,
            message: (*message).to_owned(),
        };
        let failures: Vec<_> = failures.iter().map(failure).collect();
        let counts = Counts { passed, failed: failures.len(), failures, ..Counts::default() };
        judge(SUITES[0], &counts, EXPECTATIONS)
    }

    #[test]
    fn a_suite_fails_by_itself_by_its_list_and_by_its_floor() {
        let known = ("a.wast", "got 13");
        assert_eq!(verdict(10, &[known]), Ok(()));
        assert!(verdict(9, &[known]).unwrap_err().contains("only 9 directives passed, not 10"));
        assert!(verdict(10, &[]).unwrap_err().contains("but passed"));
        assert!(verdict(10, &[known, ("b.wast", "got 13")]).unwrap_err().contains("b.wast:7"));
        assert!(verdict(10, &[known, ("a.wast", "got 14")]).unwrap_err().contains("got 14"));
    }

    #[test]
    fn a_suite_with_known_failures_says_which_and_why() {
        let Mode::ExpectedFailure { reason, link } = mode(SUITES[0], EXPECTATIONS) else {
            panic!("is not known to fail");
        };
        assert_eq!((reason.as_str(), link.as_str()), ("it cannot count (a.wast)", "https://x"));
        assert_eq!(mode(SUITES[1], EXPECTATIONS), Mode::Plain);
    }
}

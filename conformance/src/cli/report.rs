//! The data of the report.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use polychord_conformance::record::{Differential, Line, Mode, Start, Trial};
use polychord_conformance::spec::Counts;
use serde::Serialize;

/// What all engines did.
#[derive(Debug, Serialize)]
pub(super) struct Report {
    /// Version of the suite.
    pub(super) suite: &'static str,
    /// The machine that it ran on.
    pub(super) machine: String,
    /// The groups of trials, in the order of the suite.
    pub(super) groups: Vec<String>,
    pub(super) engines: Vec<EngineReport>,
}

/// What one engine did.
#[derive(Debug, Serialize)]
pub(super) struct EngineReport {
    pub(super) name: String,
    /// What it says about itself; none if it did not start.
    pub(super) start: Option<Start>,
    pub(super) trials: Vec<Trial>,
    /// Trials that were to run but did not end.
    pub(super) missing: Vec<String>,
    pub(super) spec: BTreeMap<String, Counts>,
    pub(super) differential: Vec<Differential>,
    /// Why it did not run, or not to the end.
    pub(super) error: Option<String>,
    /// How long the suite took.
    pub(super) seconds: f64,
}

/// How the trials of a group ended.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Tally {
    pub(super) passed: usize,
    pub(super) refused: usize,
    pub(super) expected: usize,
    pub(super) failed: usize,
}

impl Report {
    pub(super) fn new() -> Self {
        let machine = format!("{} {}", std::env::consts::OS, std::env::consts::ARCH);
        let mut seen = BTreeSet::new();
        let cases = polychord_conformance::all();
        let names = cases.iter().map(|case| group(case.name)).chain(["spec", "differential"]);
        let groups = names.filter(|name| seen.insert(*name)).map(ToOwned::to_owned).collect();
        Self { suite: polychord_conformance::VERSION, machine, groups, engines: Vec::new() }
    }

    /// Every engine ran to the end, and nothing failed.
    pub(super) fn is_well(&self) -> bool {
        self.engines.iter().all(EngineReport::is_well)
    }
}

impl EngineReport {
    /// What the lines of a record say, and what is known beside them about the end of the run.
    pub(super) fn new(name: &str, lines: Vec<Line>, error: Option<String>) -> Self {
        let mut report = Self {
            name: name.to_owned(),
            start: None,
            trials: Vec::new(),
            missing: Vec::new(),
            spec: BTreeMap::new(),
            differential: Vec::new(),
            error,
            seconds: 0.0,
        };
        let mut expected = BTreeSet::new();
        let mut running = 0;
        for line in lines {
            match line {
                Line::Start(start) => {
                    running += 1;
                    expected.extend(start.trials.iter().cloned());
                    report.start = Some(start);
                }
                Line::Trial(trial) => report.trials.push(trial),
                Line::Spec { suite, counts } => _ = report.spec.insert(suite, counts),
                Line::Differential(counts) => report.differential.push(counts),
                Line::End { millis } => {
                    running -= 1;
                    report.seconds += Duration::from_millis(millis).as_secs_f64();
                }
            }
        }
        // Tests end in any order.
        report.trials.sort_by(|a, b| a.name.cmp(&b.name));
        report.differential.sort_by_key(|counts| (counts.cases, counts.seed));
        let ended: BTreeSet<_> = report.trials.iter().map(|trial| trial.name.clone()).collect();
        report.missing = expected.difference(&ended).cloned().collect();
        if running > 0 && report.error.is_none() {
            report.error = Some("its record has no end, so it crashed or was stopped".to_owned());
        }
        report
    }

    /// It ran to the end, and nothing failed.
    pub(super) fn is_well(&self) -> bool {
        self.error.is_none() && self.tally(|_| true).failed == 0
    }

    pub(super) fn tally(&self, include: impl Fn(&str) -> bool) -> Tally {
        let mut tally = Tally::default();
        for trial in self.trials.iter().filter(|trial| include(group(&trial.name))) {
            match (&trial.failure, &trial.mode) {
                (Some(_), _) => tally.failed += 1,
                (None, Mode::Plain) => tally.passed += 1,
                (None, Mode::Refused(_)) => tally.refused += 1,
                (None, Mode::ExpectedFailure { .. }) => tally.expected += 1,
            }
        }
        tally.failed += self.missing.iter().filter(|name| include(group(name))).count();
        tally
    }

    pub(super) fn summary(&self) -> String {
        let tally = self.tally(|_| true);
        let error = self.error.as_deref().map(|error| format!(": {error}")).unwrap_or_default();
        format!("{tally}{error}")
    }
}

/// The first part of a trial's name.
pub(super) fn group(name: &str) -> &str {
    name.split('/').next().unwrap_or(name)
}

impl std::fmt::Display for Tally {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { passed, refused, expected, failed } = self;
        let known = if *expected == 1 { "known failure" } else { "known failures" };
        let parts =
            [(*passed, "passed"), (*refused, "refused"), (*expected, known), (*failed, "FAILED")];
        let parts: Vec<_> = parts
            .iter()
            .filter(|(count, _)| *count > 0)
            .map(|(count, what)| format!("{count} {what}"))
            .collect();
        f.write_str(if parts.is_empty() { "-" } else { "" })?;
        f.write_str(&parts.join(", "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn start(trials: &[&str]) -> Line {
        Line::Start(Start {
            suite: "1".into(),
            engine: "e".into(),
            version: "2".into(),
            execution: "by hand".into(),
            capabilities: serde_json::Value::Null,
            trials: trials.iter().map(ToString::to_string).collect(),
        })
    }

    fn trial(name: &str, failure: Option<&str>) -> Line {
        let (name, failure) = (name.to_owned(), failure.map(ToOwned::to_owned));
        Line::Trial(Trial { name, promise: "p".into(), mode: Mode::Plain, failure, millis: 1 })
    }

    #[test]
    fn a_run_is_well_if_it_ended_and_every_trial_passed() {
        let end = || Line::End { millis: 1_500 };
        let report = |lines| EngineReport::new("e", lines, None);
        let whole = report(vec![start(&["a/b"]), trial("a/b", None), end()]);
        assert!(whole.is_well() && whole.missing.is_empty());
        assert!((whole.seconds - 1.5).abs() < 1e-9);
        let failed = report(vec![start(&["a/b"]), trial("a/b", Some("13")), end()]);
        assert!(!failed.is_well() && failed.summary() == "1 FAILED");
        let stopped = report(vec![start(&["a/b", "a/c"]), trial("a/b", None)]);
        assert!(!stopped.is_well() && stopped.missing == ["a/c"]);
        assert!(stopped.summary().contains("has no end"), "{}", stopped.summary());
        // Each case in a process of its own, the second of which ended badly.
        let apart = vec![start(&["a/b"]), trial("a/b", None), end(), start(&["a/c"])];
        let apart = report(apart);
        assert!(!apart.is_well() && apart.missing == ["a/c"]);
    }
}

//! The report as Markdown.

use std::collections::BTreeMap;
use std::fmt::Write;

use polychord_conformance::record::Mode;

use super::report::{EngineReport, Report};

/// The whole report.
pub(super) fn page(report: &Report) -> String {
    let mut out = format!(
        "# Conformance\n\nSuite {} on {}, each engine in a process of its own.\n\n",
        report.suite, report.machine
    );
    out += &engines(report);
    _ = write!(out, "\n## Groups\n\n{}", matrix(report));
    _ = write!(out, "\n## Official WebAssembly tests\n\n{}", spec(report));
    for engine in &report.engines {
        _ = write!(out, "\n## {}\n\n{}", engine.name, details(engine));
    }
    out
}

fn engines(report: &Report) -> String {
    let mut out = "| engine | version | runs guests by | result | seconds |\n".to_owned();
    out += "| --- | --- | --- | --- | --- |\n";
    for engine in &report.engines {
        let (version, execution) = match &engine.start {
            Some(start) => (&*start.version, &*start.execution),
            None => ("-", "-"),
        };
        let (name, summary, seconds) = (&engine.name, engine.summary(), engine.seconds);
        _ = writeln!(out, "| {name} | {version} | {execution} | {summary} | {seconds:.0} |");
    }
    out
}

/// Engines by groups.
pub(super) fn matrix(report: &Report) -> String {
    let names: Vec<_> = report.engines.iter().map(|engine| &*engine.name).collect();
    let mut out = format!("| group | {} |\n", names.join(" | "));
    out += &format!("| --- |{}\n", " --- |".repeat(names.len()));
    for group in report.groups() {
        let cells: Vec<_> = report
            .engines
            .iter()
            .map(|engine| engine.tally(|name| name == group).to_string())
            .collect();
        _ = writeln!(out, "| {group} | {} |", cells.join(" | "));
    }
    out
}

fn spec(report: &Report) -> String {
    let mut out = "| suite | engine | passed | failed | refused | not expressible |\n".to_owned();
    out += "| --- | --- | --- | --- | --- | --- |\n";
    for engine in &report.engines {
        for (suite, counts) in &engine.spec {
            let sum = |reasons: &BTreeMap<String, usize>| reasons.values().sum::<usize>();
            let (refused, silent) = (sum(&counts.refused), sum(&counts.not_expressible));
            let (name, passed, failed) = (&engine.name, counts.passed, counts.failed);
            _ = writeln!(out, "| {suite} | {name} | {passed} | {failed} | {refused} | {silent} |");
        }
    }
    out
}

fn details(engine: &EngineReport) -> String {
    let mut out = String::new();
    if let Some(error) = &engine.error {
        _ = writeln!(out, "It did not run, or not to the end: {error}\n");
    }
    let mut refused: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for trial in &engine.trials {
        match (&trial.failure, &trial.mode) {
            (Some(failure), _) => {
                _ = writeln!(out, "- **{} failed**: {}", trial.name, failure.replace('\n', " "));
            }
            (None, Mode::Refused(why)) => refused.entry(why).or_default().push(&trial.name),
            (None, Mode::ExpectedFailure { reason, link }) => {
                _ = writeln!(out, "- {} fails, as is known: {reason} ({link})", trial.name);
            }
            (None, Mode::Plain) => {}
        }
    }
    for name in &engine.missing {
        _ = writeln!(out, "- **{name} did not end**");
    }
    for (why, names) in refused {
        _ = writeln!(out, "- refused, {why}: {}", names.join(", "));
    }
    if out.is_empty() { "All cases pass.\n".to_owned() } else { out }
}

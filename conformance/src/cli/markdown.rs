//! The report as Markdown, with what does not depend on time and machine, so that it can be
//! committed and compared.

use std::collections::BTreeMap;
use std::fmt::Write;

use polychord_conformance::record::Mode;
use polychord_conformance::spec::SUITES;

use super::report::{EngineReport, Report};

/// The whole report.
pub(super) fn page(report: &Report) -> String {
    let mut out = format!(
        "# Conformance\n\nVersion {} of the suite, on {}, each engine in a process of its own. \
         Written by `polychord-conformance` ([vendors.md](vendors.md)). Browsers and Node have a page of \
         their own ([browser-conformance.md](browser-conformance.md)).\n\n",
        report.suite, report.machine
    );
    out += &engines(report);
    _ = write!(
        out,
        "\n*Refused* cases need what the engine does not claim, and check that asking for it is \
         refused. *Known failures* fail for a reason that is the engine's own, and have to.\n\n\
         ## Groups\n\n{}",
        matrix(report)
    );
    _ = write!(
        out,
        "\n## Official WebAssembly tests\n\nDirectives by outcome. Those that fail are known \
         failures, for the reasons below; any other ends a run as failed.\n\n{}",
        spec(report)
    );
    _ = write!(out, "\n{}", reasons(report));
    _ = write!(out, "\n## Random modules\n\n{}", differential(report));
    for engine in &report.engines {
        _ = write!(out, "\n## {}\n\n{}", engine.name, details(engine));
    }
    out
}

fn engines(report: &Report) -> String {
    let mut out = table(&["engine", "version", "runs guests by", "result"]);
    for engine in &report.engines {
        let (version, execution) = match &engine.start {
            Some(start) => (&*start.version, &*start.execution),
            None => ("-", "-"),
        };
        row(&mut out, &[&engine.name, version, execution, &engine.summary()]);
    }
    out
}

/// Engines by groups.
pub(super) fn matrix(report: &Report) -> String {
    let mut heading = vec!["group"];
    heading.extend(report.engines.iter().map(|engine| &*engine.name));
    let mut out = table(&heading);
    for group in &report.groups {
        let tally = |engine: &EngineReport| engine.tally(|name| name == group).to_string();
        let cells: Vec<_> = report.engines.iter().map(tally).collect();
        if cells.iter().all(|cell| cell == "-") {
            continue;
        }
        let mut cells: Vec<_> = cells.iter().map(String::as_str).collect();
        cells.insert(0, group);
        row(&mut out, &cells);
    }
    out
}

/// Directives by outcome.
fn spec(report: &Report) -> String {
    let heading = ["suite", "engine", "directives", "passed", "failed", "refused", "inexpressible"];
    let mut out = table(&heading);
    for suite in SUITES {
        for engine in &report.engines {
            let Some(counts) = engine.spec.get(suite.name) else { continue };
            let sum = |reasons: &BTreeMap<String, usize>| reasons.values().sum::<usize>();
            let numbers = [
                counts.total(),
                counts.passed,
                counts.failed,
                sum(&counts.refused),
                sum(&counts.not_expressible),
            ];
            let numbers = numbers.map(|number| number.to_string());
            let mut cells = vec![suite.name, &engine.name];
            cells.extend(numbers.iter().map(String::as_str));
            row(&mut out, &cells);
        }
    }
    out
}

/// Why directives were refused or could not be expressed: the same reasons on many engines.
fn reasons(report: &Report) -> String {
    let names: Vec<_> = report.engines.iter().map(|engine| &*engine.name).collect();
    let mut rows: BTreeMap<(&str, &str, &str), Vec<usize>> = BTreeMap::new();
    for (index, engine) in report.engines.iter().enumerate() {
        for (suite, counts) in &engine.spec {
            let refused = counts.refused.iter().map(|entry| ("refused", entry));
            let silent = counts.not_expressible.iter().map(|entry| ("inexpressible", entry));
            for (outcome, (reason, count)) in refused.chain(silent) {
                let row = rows.entry((suite, outcome, reason)).or_default();
                row.resize(names.len(), 0);
                row[index] = *count;
            }
        }
    }
    let mut out = table(&[&["suite", "outcome", "reason"][..], &names].concat());
    for ((suite, outcome, reason), counts) in rows {
        let counts: Vec<_> = counts.iter().map(ToString::to_string).collect();
        let mut cells = vec![suite, outcome, reason];
        cells.extend(counts.iter().map(String::as_str));
        row(&mut out, &cells);
    }
    out
}

fn differential(report: &Report) -> String {
    let heading =
        ["engine", "compared with", "seed", "asked for", "modules", "calls returned", "trapped"];
    let mut out = table(&heading);
    for engine in &report.engines {
        for counts in &engine.differential {
            let numbers = [counts.cases, counts.modules, counts.returned, counts.trapped];
            let numbers = numbers.map(|number| number.to_string());
            let seed = format!("{:#x}", counts.seed);
            let mut cells = vec![&*engine.name, &*counts.reference, &*seed];
            cells.extend(numbers.iter().map(String::as_str));
            row(&mut out, &cells);
        }
    }
    out
}

/// What did not simply pass on an engine, with the reasons.
pub(super) fn details(engine: &EngineReport) -> String {
    let mut out = String::new();
    if let Some(error) = &engine.error {
        _ = writeln!(out, "{} is incomplete: {error}\n", engine.name);
    }
    let mut refused: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for trial in &engine.trials {
        match (&trial.failure, &trial.mode) {
            (Some(failure), _) => {
                _ = writeln!(out, "- **{} failed**: {}", trial.name, failure.replace('\n', " "));
            }
            (None, Mode::Refused(why)) => refused.entry(why).or_default().push(&trial.name),
            (None, Mode::ExpectedFailure { reason, link }) => {
                _ = writeln!(out, "- {} fails, as is known: {reason}, {link}", trial.name);
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

fn table(heading: &[&str]) -> String {
    let mut out = String::new();
    row(&mut out, heading);
    _ = writeln!(out, "|{}", " --- |".repeat(heading.len()));
    out
}

fn row(out: &mut String, cells: &[&str]) {
    _ = writeln!(out, "| {} |", cells.join(" | "));
}

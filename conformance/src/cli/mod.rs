//! The command line of the report.

mod arguments;
mod build;
mod child;
mod engines;
mod error;
mod html;
mod markdown;
mod records;
mod report;

use std::io::{self, Write};
use std::path::Path;

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};

pub(crate) use arguments::Arguments;
use engines::Target;
pub(crate) use error::Error;
use error::io;
use report::{EngineReport, Report};

/// Runs the engines one after the other and writes the report. True if nothing failed.
pub(crate) fn run(arguments: &Arguments) -> Result<bool, Error> {
    let targets = engines::select(&arguments.engine)?;
    create_dir(&arguments.report)?;
    let mut report = Report::new();
    report.engines = match &arguments.records {
        Some(folder) => {
            let read = targets.iter().map(|target| records::report(target.name, folder));
            read.collect::<Result<_, _>>()?
        }
        None => run_engines(&targets, arguments)?,
    };
    write(&arguments.report, &report)?;
    say(&markdown::matrix(&report));
    for engine in report.engines.iter().filter(|engine| !engine.is_well()) {
        say(&markdown::details(engine));
    }
    say(&format!("report: {}", arguments.report.join("report.html").display()));
    Ok(report.is_well())
}

fn run_engines(targets: &[Target], arguments: &Arguments) -> Result<Vec<EngineReport>, Error> {
    let given = arguments.program.iter();
    let mut programs: Vec<_> =
        given.map(|(name, path)| (name.clone(), Ok(vec![path.clone()]))).collect();
    if arguments.program.is_empty() || arguments.engine != ["all"] {
        programs.extend(build::programs(targets));
    }
    let bars = MultiProgress::new();
    let mut reports = Vec::new();
    for (name, programs) in programs {
        let bar = bars.add(bar(&name));
        let report = match programs {
            Ok(programs) => child::run(&name, &programs, arguments, &bar)?,
            Err(reason) => EngineReport::new(&name, Vec::new(), Some(reason)),
        };
        bar.finish_with_message(report.summary());
        reports.push(report);
    }
    Ok(reports)
}

fn write(folder: &Path, report: &Report) -> Result<(), Error> {
    let json = serde_json::to_string_pretty(report).unwrap_or_default();
    let files = [
        ("report.html", html::page(&json)),
        ("report.md", markdown::page(report)),
        ("report.json", json),
    ];
    for (name, text) in files {
        let path = folder.join(name);
        std::fs::write(&path, text).map_err(io("write", &path))?;
    }
    Ok(())
}

fn create_dir(path: &Path) -> Result<(), Error> {
    std::fs::create_dir_all(path).map_err(io("create", path))
}

fn bar(name: &str) -> ProgressBar {
    let style = ProgressStyle::with_template("{prefix:22} {bar:30} {pos:>3}/{len:3} {msg}");
    let bar = ProgressBar::new(0).with_prefix(name.to_owned());
    bar.with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
}

/// Prints a line on stdout, and ignores it if stdout is closed.
pub(crate) fn say(line: &str) {
    _ = writeln!(io::stdout(), "{line}");
}

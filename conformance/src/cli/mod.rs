//! The command line of the report.

mod build;
mod child;
mod engines;
mod html;
mod markdown;
mod records;
mod report;

use std::io::{self, Write};
use std::path::{Path, PathBuf};

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};

use engines::Target;
use report::{EngineReport, Report};

/// Runs the conformance suite on engines and writes a report.
#[derive(Debug, clap::Parser)]
#[command(name = "polychord-conformance", version)]
pub(crate) struct Arguments {
    /// Which engine: a name, or `all` for those that come with Polychord. May be repeated.
    #[arg(long, value_name = "NAME", default_value = "all")]
    engine: Vec<String>,
    /// Another backend's test program, as `cargo test --no-run` builds it. May be repeated.
    #[arg(long, value_name = "NAME=PATH", value_parser = program)]
    program: Vec<(String, PathBuf)>,
    /// Folder for report.json, report.md and report.html.
    #[arg(long, value_name = "FOLDER", default_value = "target/conformance")]
    report: PathBuf,
    /// Runs only cases whose name contains this.
    #[arg(long, value_name = "TEXT")]
    filter: Option<String>,
    /// Runs nothing: reports on runs of `cargo test` that are over, from the folder that
    /// POLYCHORD_CONFORMANCE_RECORD named.
    #[arg(long, value_name = "FOLDER", conflicts_with_all = ["program", "filter"])]
    records: Option<PathBuf>,
}

/// Errors of the report itself, and not of the engines.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error("there is no engine {name}; there are {known} and all")]
    UnknownEngine { name: String, known: String },
    #[error("cannot {what} {path}: {source}")]
    Io { what: &'static str, path: PathBuf, source: io::Error },
}

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

fn io(what: &'static str, path: &Path) -> impl Fn(io::Error) -> Error {
    move |source| Error::Io { what, path: path.to_owned(), source }
}

fn bar(name: &str) -> ProgressBar {
    let style = ProgressStyle::with_template("{prefix:22} {bar:30} {pos:>3}/{len:3} {msg}");
    let bar = ProgressBar::new(0).with_prefix(name.to_owned());
    bar.with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
}

fn program(text: &str) -> Result<(String, PathBuf), String> {
    let (name, path) = text.split_once('=').ok_or("is not NAME=PATH")?;
    Ok((name.to_owned(), path.into()))
}

/// Prints a line on stdout, and ignores it if stdout is closed.
pub(crate) fn say(line: &str) {
    _ = writeln!(io::stdout(), "{line}");
}

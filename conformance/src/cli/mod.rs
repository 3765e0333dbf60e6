//! The command line of the report.

mod build;
mod child;
mod engines;
mod html;
mod markdown;
mod report;

use std::io::{self, Write};
use std::path::{Path, PathBuf};

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};

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
}

/// What can go wrong beside the engines.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error("there is no engine {name}; there are {known} and all")]
    UnknownEngine { name: String, known: String },
    #[error("cannot {what} {path}: {source}")]
    Io { what: &'static str, path: PathBuf, source: io::Error },
}

/// Runs the engines one after the other and writes the report. True if all is well.
pub(crate) fn run(arguments: &Arguments) -> Result<bool, Error> {
    let targets = engines::select(&arguments.engine)?;
    create_dir(&arguments.report)?;
    let mut programs: Vec<_> =
        arguments.program.iter().map(|(name, path)| (name.clone(), Ok(path.clone()))).collect();
    if arguments.program.is_empty() || arguments.engine != ["all"] {
        programs.extend(build::programs(&targets));
    }
    let bars = MultiProgress::new();
    let mut report = Report::new();
    for (name, program) in programs {
        let bar = bars.add(bar(&name));
        let engine = match program {
            Ok(program) => child::run(&name, &program, arguments, &bar)?,
            Err(reason) => EngineReport::not_run(&name, reason),
        };
        bar.finish_with_message(engine.summary());
        report.engines.push(engine);
    }
    write(&arguments.report, &report)?;
    say(&markdown::matrix(&report));
    say(&format!("report: {}", arguments.report.join("report.html").display()));
    Ok(report.is_well())
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
        let failed = |source| Error::Io { what: "write", path: path.clone(), source };
        std::fs::write(&path, text).map_err(failed)?;
    }
    Ok(())
}

fn create_dir(path: &Path) -> Result<(), Error> {
    let failed = |source| Error::Io { what: "create", path: path.to_owned(), source };
    std::fs::create_dir_all(path).map_err(failed)
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

/// A line on stdout; whoever closes it does not want it.
pub(crate) fn say(line: &str) {
    _ = writeln!(io::stdout(), "{line}");
}

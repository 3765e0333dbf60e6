//! One guest, several engines: output, exit code and memory have to be the same.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use comfy_table::{Cell, Color};
use serde::Serialize;

use super::show::{Paint, short};
use super::spinner::spinner;
use crate::cli::program::this_program;
use crate::cli::run::{Ending, GuestArgs, Outcome};
use crate::cli::{Failure, terminal};

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Compare a guest in place of a prompt: a WASI command, or any module with --invoke
    ///
    /// It runs as by `polychord run`, with a fixed clock and fixed random numbers, and without input. What it
    /// writes to a directory, the engines after it find there.
    #[arg(long, value_name = "GUEST.wasm", conflicts_with_all = ["prompt", "model", "profile"])]
    guest: Option<PathBuf>,

    /// Arguments of the guest
    #[arg(last = true, requires = "guest", value_name = "ARGS")]
    args: Vec<String>,

    #[command(flatten)]
    with: GuestArgs,
}

/// One engine, and what came of it.
#[derive(Debug, Serialize)]
struct Entry {
    engine: String,
    #[serde(flatten)]
    ran: Ran,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "lowercase")]
enum Ran {
    Run(Box<Outcome>),
    Error(String),
}

/// Everything that was compared.
#[derive(Debug, Serialize)]
struct Comparison {
    guest: PathBuf,
    args: Vec<String>,
    runs: Vec<Entry>,
    /// True if every run came to an end, with the same result.
    identical: bool,
}

impl Args {
    pub(super) fn path(&self) -> Option<&Path> {
        self.guest.as_deref()
    }
}

/// Runs a guest on each engine in a process of its own, one after the other.
///
/// Fails if an engine could not run it, or if any two differ.
pub(super) fn compare(
    guest: &Path,
    args: &Args,
    engines: &[String],
    choices: &[String],
    json: bool,
) -> Result<(), Failure> {
    let mut runs = Vec::new();
    for engine in engines {
        let spinner = spinner(engine);
        let ran = run(guest, args, engine, choices)?;
        spinner.finish_and_clear();
        runs.push(Entry { engine: engine.clone(), ran });
    }
    let first = runs.first().and_then(Entry::result);
    let identical = first.is_some() && runs.iter().all(|entry| entry.result() == first);
    let (guest, typed) = (guest.to_owned(), args.args.clone());
    let comparison = Comparison { guest, args: typed, runs, identical };
    if json {
        let json = terminal::json(&serde_json::to_string_pretty(&comparison)?);
        writeln!(std::io::stdout(), "{json}")?;
    } else {
        print(&comparison)?;
    }
    match comparison.problem() {
        None => Ok(()),
        Some(problem) => Err(problem.into()),
    }
}

/// One run in a child process. A guest that traps has come to an end, too.
fn run(guest: &Path, args: &Args, engine: &str, choices: &[String]) -> Result<Ran, Failure> {
    let output = Command::new(this_program()?)
        .args(["run", "--json", "--engine", engine])
        .args(choices)
        .args(args.with.reproducible().args())
        .arg(guest)
        .arg("--")
        .args(&args.args)
        .stdin(Stdio::null())
        .output()?;
    if let Ok(outcome) = serde_json::from_slice::<Box<Outcome>>(&output.stdout) {
        return Ok(match outcome.ending.refusal() {
            Some(error) => Ran::Error(error.to_owned()),
            None => Ran::Run(outcome),
        });
    }
    let said = String::from_utf8_lossy(&output.stderr);
    Ok(Ran::Error(match said.trim().trim_start_matches("error: ") {
        "" => format!("ended with {}", output.status),
        said => said.to_owned(),
    }))
}

fn print(comparison: &Comparison) -> Result<(), Failure> {
    let paint = Paint::for_stdout();
    let mut out = std::io::stdout().lock();
    let reference = comparison.runs.iter().find_map(Entry::outcome);
    if let Some(outcome) = reference {
        write!(out, "{}", terminal::generated(&outcome.stdout))?;
        write!(out, "{}", terminal::generated(&outcome.stderr))?;
    }
    let mut table =
        paint.table(&["engine", "version", "mode", "end", "output", "errors", "memory", "seconds"]);
    for entry in &comparison.runs {
        match (entry.outcome(), reference) {
            (Some(outcome), Some(reference)) => table.add_row(row(outcome, reference)),
            _ => table.add_row([
                Cell::new(&entry.engine),
                Cell::new(""),
                Cell::new(""),
                Cell::new("failed").fg(Color::Red),
            ]),
        };
    }
    writeln!(out, "{table}")?;
    for entry in &comparison.runs {
        let error = match &entry.ran {
            Ran::Error(error) => error,
            Ran::Run(outcome) => match &outcome.ending {
                Ending::Failed { error, .. } => error,
                Ending::Exited(_) => continue,
            },
        };
        let text = terminal::lines(&format!("{}: {error}", entry.engine));
        writeln!(out, "{}", paint.apply("31", &text))?;
    }
    let runs = comparison.runs.len();
    let verdict = match comparison.problem() {
        None => paint.apply(
            "1;32",
            &format!("✓ {runs} runs, one result: output, end and memory are the same bit for bit"),
        ),
        Some(problem) => paint.apply("1;31", &format!("✗ {problem}")),
    };
    writeln!(out, "{verdict}")?;
    Ok(())
}

fn row(outcome: &Outcome, reference: &Outcome) -> [Cell; 8] {
    let end = |outcome: &Outcome| match &outcome.ending {
        Ending::Exited(code) => format!("exit {code}"),
        Ending::Failed { status, .. } => format!("failed, {status}"),
    };
    let same = |text: &str, reference: &str| {
        Cell::new(short(text)).fg(if text == reference { Color::Green } else { Color::Red })
    };
    [
        Cell::new(&outcome.engine),
        Cell::new(&outcome.engine_version),
        Cell::new(&outcome.execution),
        same(&end(outcome), &end(reference)),
        same(&outcome.stdout_sha256, &reference.stdout_sha256),
        same(&outcome.stderr_sha256, &reference.stderr_sha256),
        same(&outcome.memory_sha256, &reference.memory_sha256),
        Cell::new(format!("{:.2}", outcome.seconds)),
    ]
}

impl Comparison {
    fn problem(&self) -> Option<String> {
        if self.identical {
            return None;
        }
        let failed = self.runs.iter().filter(|entry| entry.outcome().is_none()).count();
        Some(match failed {
            0 => "the engines do not agree".into(),
            _ => format!("{failed} of {} runs failed", self.runs.len()),
        })
    }
}

/// What has to be the same for all.
type Compared<'a> = (String, &'a Option<Vec<String>>, [&'a str; 3], u64);

impl Entry {
    fn outcome(&self) -> Option<&Outcome> {
        match &self.ran {
            Ran::Run(outcome) => Some(outcome),
            Ran::Error(_) => None,
        }
    }

    fn result(&self) -> Option<Compared<'_>> {
        let outcome = self.outcome()?;
        // Messages name the engine.
        let end = match &outcome.ending {
            Ending::Exited(code) => format!("exit {code}"),
            Ending::Failed { status, .. } => format!("failed {status}"),
        };
        let hashes = [&*outcome.stdout_sha256, &*outcome.stderr_sha256, &*outcome.memory_sha256];
        Some((end, &outcome.results, hashes, outcome.memory_bytes))
    }
}

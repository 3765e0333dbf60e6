//! Runs one engine's test program in a process of its own, and follows its record.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use indicatif::ProgressBar;
use polychord_conformance::record::{self, Line};

use super::report::EngineReport;
use super::{Arguments, Error};

/// No engine needs a tenth of it.
const LONGEST: Duration = Duration::from_secs(1_200);
const POLL: Duration = Duration::from_millis(100);

pub(super) fn run(
    name: &str,
    program: &Path,
    arguments: &Arguments,
    bar: &ProgressBar,
) -> Result<EngineReport, Error> {
    let record = arguments.report.join(format!("{name}.jsonl"));
    let log = arguments.report.join(format!("{name}.log"));
    if record.exists() {
        std::fs::remove_file(&record).map_err(io("remove", &record))?;
    }
    let output = std::fs::File::create(&log).map_err(io("create", &log))?;
    let errors = output.try_clone().map_err(io("open", &log))?;
    let mut command = Command::new(program);
    command.args(&arguments.filter).env(record::VARIABLE, absolute(&record));
    command.stdin(Stdio::null()).stdout(output).stderr(errors);
    let start = Instant::now();
    let mut child = command.spawn().map_err(io("start", program))?;
    let status = follow(&mut child, start, || show(&record, bar)).map_err(io("run", program))?;
    let ended = match status {
        None => Some(format!("it was stopped after {} s", LONGEST.as_secs())),
        Some(status) if status.success() => None,
        Some(status) => Some(format!("it ended with {status}; {} has its output", log.display())),
    };
    show(&record, bar);
    Ok(EngineReport::new(name, read(&record), ended, start.elapsed(), arguments.filter.is_none()))
}

/// Waits for a process and ends it if it takes too long.
fn follow(
    child: &mut Child,
    start: Instant,
    progress: impl Fn(),
) -> std::io::Result<Option<ExitStatus>> {
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(Some(status));
        }
        if start.elapsed() > LONGEST {
            child.kill()?;
            child.wait()?;
            return Ok(None);
        }
        progress();
        thread::sleep(POLL);
    }
}

fn show(record: &Path, bar: &ProgressBar) {
    let lines = read(record);
    for line in &lines {
        if let Line::Start(start) = line {
            bar.set_length(start.trials.len() as u64);
        }
    }
    let done = lines.iter().filter(|line| matches!(line, Line::Trial(_))).count();
    bar.set_position(done as u64);
}

/// The lines that are complete.
fn read(record: &Path) -> Vec<Line> {
    let text = std::fs::read_to_string(record).unwrap_or_default();
    text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
}

fn absolute(path: &Path) -> PathBuf {
    std::path::absolute(path).unwrap_or_else(|_| path.to_owned())
}

fn io(what: &'static str, path: &Path) -> impl Fn(std::io::Error) -> Error {
    move |source| Error::Io { what, path: path.to_owned(), source }
}

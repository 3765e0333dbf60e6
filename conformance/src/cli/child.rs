//! Runs an engine's test programs, each in a process of its own, and reads their record.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use indicatif::ProgressBar;
use polychord_conformance::record::{self, Line};

use super::arguments::Arguments;
use super::error::{Error, io};
use super::records;
use super::report::EngineReport;

/// No engine needs a tenth of it.
const LONGEST: Duration = Duration::from_secs(1_200);
const POLL: Duration = Duration::from_millis(100);

pub(super) fn run(
    name: &str,
    programs: &[PathBuf],
    arguments: &Arguments,
    bar: &ProgressBar,
) -> Result<EngineReport, Error> {
    let folder = arguments.report.join("records").join(name);
    if folder.exists() {
        fs::remove_dir_all(&folder).map_err(io("remove", &folder))?;
    }
    fs::create_dir_all(&folder).map_err(io("create", &folder))?;
    let log = arguments.report.join(format!("{name}.log"));
    let output = File::create(&log).map_err(io("create", &log))?;
    let mut ended = None;
    for program in programs {
        let mut command = command(program, &folder, arguments);
        command.stdout(output.try_clone().map_err(io("open", &log))?);
        command.stderr(output.try_clone().map_err(io("open", &log))?);
        let mut child = command.spawn().map_err(io("start", program))?;
        let status = follow(&mut child, || show(&folder, bar)).map_err(io("run", program))?;
        ended = ended.or(match status {
            None => Some(format!("it was stopped after {} s", LONGEST.as_secs())),
            Some(status) if status.success() => None,
            Some(status) => {
                Some(format!("it ended with {status}; {} has its output", log.display()))
            }
        });
    }
    show(&folder, bar);
    Ok(EngineReport::new(name, records::all(&folder)?, ended))
}

fn command(program: &Path, folder: &Path, arguments: &Arguments) -> Command {
    let mut command = Command::new(program);
    let folder = std::path::absolute(folder).unwrap_or_else(|_| folder.to_owned());
    command.args(&arguments.filter).env(record::VARIABLE, folder).stdin(Stdio::null());
    command
}

/// Waits for a process and ends it if it takes too long.
fn follow(child: &mut Child, progress: impl Fn()) -> std::io::Result<Option<ExitStatus>> {
    let start = Instant::now();
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

fn show(folder: &Path, bar: &ProgressBar) {
    let lines = records::all(folder).unwrap_or_default();
    for line in &lines {
        if let Line::Start(start) = line {
            bar.set_length(start.trials.len() as u64);
        }
    }
    let done = lines.iter().filter(|line| matches!(line, Line::Trial(_))).count();
    bar.set_position(done as u64);
}

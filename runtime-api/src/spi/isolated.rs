//! Compiling in a process of its own, so that no module ends or starves this one.
//!
//! The bounds of [`ModuleLimits`](crate::ModuleLimits) keep a compiler's work small, but a defect of
//! a compiler they cannot know. Who takes modules from anybody compiles them in another process,
//! whose memory and time the system limits, and whose end is only an error here.

use std::ffi::OsString;
use std::io::{self, Read, Write};
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use crate::{Error, Result};

/// A program that compiles modules in a process of its own, within limits.
///
/// It is run with `args` and those of the engine, which it passes to the `run_compiler` of the
/// engine's crate: most easily the program that uses this library itself, by a hidden subcommand.
///
/// ```
/// use std::time::Duration;
///
/// use polychord_runtime_api::spi::CompilerCommand;
///
/// let command = CompilerCommand::new("polychord").arg("compile-guest").time(Duration::from_secs(30));
/// assert_eq!(command.memory_bytes, 4 << 30);
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct CompilerCommand {
    /// The program.
    pub program: PathBuf,
    /// Arguments that lead it to `run_compiler`.
    pub args: Vec<OsString>,
    /// Most bytes of address space of the process; 4 GiB by default. Not enforced on Windows.
    pub memory_bytes: u64,
    /// Longest time of one compilation; two minutes by default.
    pub time: Duration,
}

/// Tells the process its limits: bytes, and seconds of all processors.
const LIMITS: &str = "POLYCHORD_COMPILER_LIMITS";
/// Most of what the process writes to stderr that is kept.
const SAID: u64 = 64 << 10;
/// How often the process is looked at.
const AGAIN: Duration = Duration::from_millis(5);

impl CompilerCommand {
    /// A program without arguments, with the default limits.
    pub fn new(program: impl Into<PathBuf>) -> Self {
        Self {
            program: program.into(),
            args: Vec::new(),
            memory_bytes: 4 << 30,
            time: Duration::from_secs(120),
        }
    }

    /// Adds an argument that leads the program to `run_compiler`.
    #[must_use]
    pub fn arg(mut self, arg: impl Into<OsString>) -> Self {
        self.args.push(arg.into());
        self
    }

    /// Sets the most bytes of address space of the process.
    #[must_use]
    pub const fn memory_bytes(mut self, most: u64) -> Self {
        self.memory_bytes = most;
        self
    }

    /// Sets the longest time of one compilation.
    #[must_use]
    pub const fn time(mut self, most: Duration) -> Self {
        self.time = most;
        self
    }

    /// Compiles `input`; what the process wrote to stdout. For backends.
    ///
    /// # Errors
    ///
    /// [`Error::Compile`] if the process cannot be run, fails, crashes, or is beyond its limits.
    pub fn run(&self, engine: &'static str, args: &[OsString], input: &[u8]) -> Result<Vec<u8>> {
        let fail = |reason: String| Error::Compile { engine, reason };
        let program = self.program.display();
        let mut child = self.spawn(args).map_err(|e| fail(format!("cannot run {program}: {e}")))?;
        let (stdin, stdout) = (child.stdin.take(), child.stdout.take());
        let stderr = child.stderr.take();
        let (ended, code, said) = thread::scope(|scope| {
            // A process that ends early reads no further, which its status explains.
            scope.spawn(|| stdin.map(|mut stdin| stdin.write_all(input)));
            let code = scope.spawn(|| read(stdout, u64::MAX));
            let said = scope.spawn(|| read(stderr, SAID));
            let ended = self.wait(&mut child);
            (ended, code.join(), said.join())
        });
        let said = said.unwrap_or_default();
        let said = String::from_utf8_lossy(&said);
        let limits = format!(
            "Its limits are {} bytes of memory and {:?}; give more with CompilerCommand, if you \
             trust the module's author",
            self.memory_bytes, self.time
        );
        match ended.map_err(|e| fail(format!("cannot wait for {program}: {e}")))? {
            None => Err(fail(format!("{program} took too long and was stopped. {limits}"))),
            Some(status) if status.success() => {
                code.map_err(|_| fail(format!("cannot read what {program} compiled")))
            }
            Some(status) => {
                let crashed = if has_crashed(status) {
                    " It crashed, as compilers do on some modules or without enough memory: use \
                     another engine, or an interpreter."
                } else {
                    ""
                };
                let said = said.trim();
                Err(fail(format!("{program} ended with {status}: {said}.{crashed} {limits}")))
            }
        }
    }

    fn spawn(&self, args: &[OsString]) -> io::Result<Child> {
        // Time of processors is counted over all of them.
        let processors = thread::available_parallelism().map_or(1, usize::from) as u64;
        let seconds = self.time.as_secs().saturating_add(1).saturating_mul(processors);
        Command::new(&self.program)
            .args(&self.args)
            .args(args)
            .env(LIMITS, format!("{} {seconds}", self.memory_bytes))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
    }

    /// Waits until the process ends, or ends it; none if its time was over.
    fn wait(&self, child: &mut Child) -> io::Result<Option<ExitStatus>> {
        let start = Instant::now();
        loop {
            if let Some(status) = child.try_wait()? {
                return Ok(Some(status));
            }
            if start.elapsed() >= self.time {
                child.kill()?;
                child.wait()?;
                return Ok(None);
            }
            thread::sleep(AGAIN);
        }
    }
}

/// All that a process writes, of which at most `most` bytes are kept.
fn read(from: Option<impl Read>, most: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    if let Some(mut from) = from {
        // What cannot be read is missing, which is noticed where it is used.
        _ = from.by_ref().take(most).read_to_end(&mut bytes);
        _ = io::copy(&mut from, &mut io::sink());
    }
    bytes
}

#[cfg(unix)]
fn has_crashed(status: ExitStatus) -> bool {
    std::os::unix::process::ExitStatusExt::signal(&status).is_some()
}

#[cfg(not(unix))]
fn has_crashed(status: ExitStatus) -> bool {
    status.code().is_some_and(i32::is_negative)
}

/// Serves one run of a [`CompilerCommand`]: reads a module from stdin and writes what `compile`
/// makes of it to stdout, within the limits that the other process has set. For backends.
///
/// # Errors
///
/// Returns the errors of `compile`, and [`Error::Compile`] if stdin and stdout do not work or the limits cannot
/// be set. The program should write it to stderr and exit with a failure.
pub fn serve_compiler(
    engine: &'static str,
    compile: impl FnOnce(&[u8]) -> Result<Vec<u8>>,
) -> Result<()> {
    let fail = |e: io::Error| Error::Compile { engine, reason: e.to_string() };
    limit_this_process().map_err(fail)?;
    let mut wasm = Vec::new();
    io::stdin().lock().read_to_end(&mut wasm).map_err(fail)?;
    let code = compile(&wasm)?;
    let mut stdout = io::stdout().lock();
    stdout.write_all(&code).and_then(|()| stdout.flush()).map_err(fail)
}

/// Applies the limits that a [`CompilerCommand`] has set, if this process was started by one.
#[cfg(unix)]
fn limit_this_process() -> io::Result<()> {
    use rustix::process::{Resource, getrlimit, setrlimit};

    let Ok(limits) = std::env::var(LIMITS) else { return Ok(()) };
    let mut numbers = limits.split(' ').map(|number| number.parse().ok());
    for resource in [Resource::As, Resource::Cpu] {
        let limit: Option<u64> = numbers.next().flatten();
        let mut now = getrlimit(resource);
        now.current = now.maximum.into_iter().chain(limit).min();
        setrlimit(resource, now)?;
    }
    // A core of a compiler that was stopped is of no use.
    let mut core = getrlimit(Resource::Core);
    core.current = Some(0);
    Ok(setrlimit(Resource::Core, core)?)
}

#[cfg(not(unix))]
fn limit_this_process() -> io::Result<()> {
    Ok(())
}

#[cfg(unix)]
#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str) -> CompilerCommand {
        CompilerCommand::new("/bin/sh").arg("-c").arg(script)
    }

    fn refused(command: &CompilerCommand) -> String {
        command.run("test", &[], b"input").unwrap_err().to_string()
    }

    #[test]
    fn what_a_process_writes_is_what_it_compiled() {
        assert_eq!(shell("cat").run("test", &[], b"input").unwrap(), b"input");
        let large = vec![7; 1 << 20];
        assert_eq!(shell("cat").run("test", &[], &large).unwrap(), large);
        // One that reads nothing does not hold up the other.
        assert_eq!(shell("echo x").run("test", &[], &large).unwrap(), b"x\n");
    }

    #[test]
    fn one_that_fails_says_why() {
        let error = refused(&shell("echo no such type >&2; exit 3"));
        assert!(error.contains("no such type") && error.contains("exit status: 3"), "{error}");
        assert!(!error.contains("crashed"), "{error}");
        let error = refused(&shell("kill -ABRT $$").memory_bytes(12345));
        assert!(error.contains("crashed") && error.contains("12345"), "{error}");
        let error = refused(&CompilerCommand::new("/nonexistent/program"));
        assert!(error.contains("/nonexistent/program"), "{error}");
    }

    #[test]
    fn one_that_takes_too_long_is_stopped() {
        let start = Instant::now();
        let error = refused(&shell("exec sleep 600").time(Duration::from_millis(200)));
        assert!(error.contains("200ms") && error.contains("took too long"), "{error}");
        assert!(start.elapsed() < Duration::from_secs(60));
    }
}

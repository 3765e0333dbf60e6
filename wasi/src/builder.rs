//! What a guest is given.

use std::path::PathBuf;

use cap_std::ambient_authority;
use wasi_common::sync::{clocks, stdio};
use wasi_common::{Table, WasiCtx, WasiFile};

use crate::access::Access;
use crate::context::Wasi;
use crate::directory::{Directory, File};
use crate::error::{Error, Result};
use crate::random::{self, Random};
use crate::stdio::{Captured, Input, Output, Reader, Writer};
use crate::stop::Stop;
use crate::time::{self, Clock, Passed};
use crate::wait::Scheduler;

/// What a guest is given: arguments, environment, directories, standard streams, clocks and random
/// numbers. Without more, that is none of these but the clock and the random numbers of the host.
///
/// A context serves one guest.
///
/// ```
/// use polychord_wasi::{Access, Input, Output, WasiBuilder};
///
/// let folder = std::env::temp_dir();
/// let wasi = WasiBuilder::new()
///     .args(["wc", "-l", "/data/log"])
///     .env("LANG", "C")
///     .directory(&folder, "/data", Access::ReadOnly)
///     .stdin(Input::bytes("a line\n"))
///     .stdout(Output::Captured)
///     .stderr(Output::Inherited)
///     .build()?;
/// # Ok::<(), polychord_wasi::Error>(())
/// ```
#[derive(Debug)]
#[must_use = "build makes the context"]
pub struct WasiBuilder {
    args: Vec<String>,
    env: Vec<(String, String)>,
    directories: Vec<(PathBuf, String, Access)>,
    stdin: Input,
    stdout: Output,
    stderr: Output,
    clock: Clock,
    random: Random,
    captured_bytes: usize,
    open_files: u32,
}

impl WasiBuilder {
    /// A guest that is given nothing.
    pub fn new() -> Self {
        Self {
            args: Vec::new(),
            env: Vec::new(),
            directories: Vec::new(),
            stdin: Input::default(),
            stdout: Output::default(),
            stderr: Output::default(),
            clock: Clock::default(),
            random: Random::default(),
            captured_bytes: 16 << 20,
            open_files: 1024,
        }
    }

    /// Adds an argument. The first one is the name that the program has.
    pub fn arg(mut self, arg: impl Into<String>) -> Self {
        self.args.push(arg.into());
        self
    }

    /// Adds arguments.
    pub fn args(mut self, args: impl IntoIterator<Item = impl Into<String>>) -> Self {
        self.args.extend(args.into_iter().map(Into::into));
        self
    }

    /// Adds a variable to the environment. Nothing of this process's environment is in it.
    pub fn env(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.env.push((name.into(), value.into()));
        self
    }

    /// Opens a directory of the host for the guest, under a path of the guest's.
    ///
    /// The guest reaches what is below, and nothing else: paths that lead out of the directory, through
    /// `..`, from the root or by a symbolic link, fail with `EPERM`.
    pub fn directory(
        mut self,
        host: impl Into<PathBuf>,
        guest: impl Into<String>,
        access: Access,
    ) -> Self {
        self.directories.push((host.into(), guest.into(), access));
        self
    }

    /// Sets the standard input; empty by default.
    pub fn stdin(mut self, from: Input) -> Self {
        self.stdin = from;
        self
    }

    /// Sets the standard output; discarded by default.
    pub fn stdout(mut self, to: Output) -> Self {
        self.stdout = to;
        self
    }

    /// Sets the standard error; discarded by default.
    pub fn stderr(mut self, to: Output) -> Self {
        self.stderr = to;
        self
    }

    /// Sets which time it is; that of the host by default.
    pub fn clock(mut self, clock: Clock) -> Self {
        self.clock = clock;
        self
    }

    /// Sets where random numbers come from; the host by default.
    pub fn random(mut self, random: Random) -> Self {
        self.random = random;
        self
    }

    /// Sets the most bytes of output, and of errors, that are kept; 16 MiB by default. A guest that writes
    /// more gets `ENOSPC`.
    pub fn captured_bytes(mut self, most: usize) -> Self {
        self.captured_bytes = most;
        self
    }

    /// Sets the most files and directories that the guest may have open, its standard streams included;
    /// 1,024 by default. A guest that opens more gets `EMFILE`.
    pub fn open_files(mut self, most: u32) -> Self {
        self.open_files = most;
        self
    }

    /// Makes the context of one guest.
    ///
    /// # Errors
    ///
    /// [`Error::Directory`] or [`Error::Stdin`] if something cannot be opened, [`Error::GuestPath`] or
    /// [`Error::Text`] if something cannot be said to a guest.
    pub fn build(self) -> Result<Wasi> {
        self.check()?;
        let passed = matches!(self.clock, Clock::Fixed(_)).then(Passed::default);
        let clocks = match (self.clock, &passed) {
            (Clock::Fixed(start), Some(passed)) => time::fixed(start, passed),
            _ => clocks::clocks_ctx(),
        };
        let stop = Stop::default();
        let scheduler = Scheduler { passed, stop: stop.clone() };
        let random = random::generator(self.random);
        let mut context = WasiCtx::new(random, clocks, Box::new(scheduler), Table::new());
        for arg in &self.args {
            context.push_arg(arg).map_err(|_| too_long("argument", arg))?;
        }
        for (name, value) in &self.env {
            context.push_env(name, value).map_err(|_| too_long("variable", name))?;
        }
        context.set_stdin(open_input(self.stdin, &stop)?);
        let (stdout, file) =
            open_output(self.stdout, self.captured_bytes, || Box::new(stdio::stdout()));
        context.set_stdout(file);
        let (stderr, file) =
            open_output(self.stderr, self.captured_bytes, || Box::new(stdio::stderr()));
        context.set_stderr(file);
        let mut open = 3;
        for (host, guest, access) in self.directories {
            let directory = cap_std::fs::Dir::open_ambient_dir(&host, ambient_authority());
            let opened = |directory| Directory::new(directory, access, stop.clone());
            let directory = match directory.and_then(opened) {
                Ok(directory) => Box::new(directory),
                Err(source) => return Err(Error::Directory { host, guest, source }),
            };
            // All numbers of files would have to be taken.
            _ = context.push_preopened_dir(directory, guest);
            open += 1;
        }
        Ok(Wasi { context, stdout, stderr, open, most_open: self.open_files, stop })
    }

    /// What can be said to a guest: text that ends with a zero byte.
    fn check(&self) -> Result<()> {
        let zero = "it has a zero byte, which would end it";
        if let Some(arg) = self.args.iter().find(|arg| arg.contains('\0')) {
            return Err(Error::Text { what: "argument", text: arg.clone(), reason: zero });
        }
        for (name, value) in &self.env {
            let reason = match () {
                () if name.is_empty() => "it has no name",
                () if name.contains('=') => "its name has a `=`, which would end it",
                () if name.contains('\0') || value.contains('\0') => zero,
                () => continue,
            };
            return Err(Error::Text { what: "variable", text: name.clone(), reason });
        }
        for (number, (_, guest, _)) in self.directories.iter().enumerate() {
            let reason = match () {
                () if guest.is_empty() => "the path is empty; `.` is where relative paths begin",
                () if guest.contains('\0') => zero,
                () if self.directories[..number].iter().any(|(_, other, _)| other == guest) => {
                    "another directory has this path"
                }
                () => continue,
            };
            return Err(Error::GuestPath { guest: guest.clone(), reason });
        }
        Ok(())
    }
}

impl Default for WasiBuilder {
    fn default() -> Self {
        Self::new()
    }
}

fn open_input(input: Input, stop: &Stop) -> Result<Box<dyn WasiFile>> {
    Ok(match input {
        Input::Empty => Box::new(Reader::new(std::io::empty())),
        Input::Bytes(bytes) => Box::new(Reader::new(std::io::Cursor::new(bytes))),
        Input::File(path) => match std::fs::File::open(&path) {
            Ok(file) => Box::new(File::read_only(file)),
            Err(source) => return Err(Error::Stdin { path, source }),
        },
        Input::Inherited => inherited_input(stop),
    })
}

#[cfg(unix)]
fn inherited_input(stop: &Stop) -> Box<dyn WasiFile> {
    Box::new(crate::stdin::Stdin::new(stop.clone()))
}

/// A guest that waits for input cannot be stopped here.
#[cfg(not(unix))]
fn inherited_input(_: &Stop) -> Box<dyn WasiFile> {
    Box::new(stdio::stdin())
}

fn open_output(
    output: Output,
    most: usize,
    inherited: fn() -> Box<dyn WasiFile>,
) -> (Option<Captured>, Box<dyn WasiFile>) {
    match output {
        Output::Discarded => (None, Box::new(Writer::new(Box::new(std::io::sink())))),
        Output::Captured => {
            let captured = Captured::new(most);
            (Some(captured.clone()), Box::new(Writer::new(Box::new(captured))))
        }
        Output::Inherited => (None, inherited()),
        Output::Writer(writer) => (None, Box::new(Writer::new(writer))),
    }
}

fn too_long(what: &'static str, text: &str) -> Error {
    let text = text.chars().take(80).collect();
    Error::Text { what, text, reason: "all together are longer than a guest can address" }
}

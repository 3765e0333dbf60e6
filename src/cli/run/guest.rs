//! From a file to the end of the guest that is in it.

use std::io::{IsTerminal, Read as _, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytesize::ByteSize;
use polychord::api::imports::Imports;
use polychord::api::{Engine, Instantiation, Limits, Module, ModuleLimits, Runtime, Source, Value};
use polychord::wasi::{self, Access, Clock, Input, Output, Random, Wasi, WasiBuilder};

use super::ending::Ending;
use super::outcome::{Memories, Outcome};
use super::{Args, ctrl_c, invoke, weights};
use crate::cli::Failure;
use crate::cli::engine::Author;
use crate::cli::terminal::Plain;

/// What a guest is given, and how much it may use.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct GuestArgs {
    /// Open a directory for the guest, under its own path or another one; `:ro` at the end makes it read
    /// only
    #[arg(long = "dir", value_name = "HOST[::GUEST][:ro]")]
    directories: Vec<String>,

    /// Set a variable of the guest's environment, in which there is nothing else
    #[arg(long = "env", value_name = "NAME=VALUE")]
    variables: Vec<String>,

    /// Most bytes of each of the guest's memories, such as 8GiB; 4 GiB by default
    #[arg(long, value_name = "SIZE")]
    memory: Option<ByteSize>,

    /// Longest time that the guest may take, such as 30s, 500ms or 2m. With it, Ctrl-C stops the guest alone;
    /// without it, the whole command
    #[arg(long, value_name = "TIME", value_parser = parse_time)]
    time: Option<Duration>,

    /// Call this function, and print its results
    ///
    /// Without it the guest is a command: its `_start` is called. What a compiler made as a library is a
    /// reactor: its `_initialize` is called before the function.
    #[arg(long, value_name = "EXPORT")]
    invoke: Option<String>,

    /// Give the guest the same clock and the same random numbers in each run
    #[arg(long)]
    reproducible: bool,

    /// Refuse a guest that could take a compiler more than some seconds or a gigabyte
    #[arg(long)]
    untrusted: bool,
}

/// Beginning of the year 2000, for reproducible runs.
const MILLENNIUM: Duration = Duration::from_secs(946_684_800);

/// Runs a guest to its end.
pub(super) fn run(args: &Args, engine: &Arc<dyn Engine>) -> Result<Outcome, Failure> {
    let wasm = read(&args.guest)?;
    let limits = match args.with.author() {
        Author::Trusted => ModuleLimits::trusted(),
        Author::Unknown => ModuleLimits::default(),
    };
    let module = engine.compile_within(&wasm, &limits)?;
    drop(wasm);
    let call = Call::choose(&*module, args)?;
    let mut imports = Imports::new();
    wasi::add_to_imports::<Wasi>(&mut imports)?;
    let start = Instantiation::new(&args.with.limits()).imports(&imports).state(context(args)?);
    let begin = Instant::now();
    let mut guest = match module.instantiate_with(start) {
        Ok(guest) => guest,
        // Its start function has called proc_exit.
        Err(error @ polychord::api::Error::Exit { .. }) => {
            return Ok(Outcome::new(&**engine, Ending::of::<()>(Err(error)).1));
        }
        Err(error) => return Err(error.into()),
    };
    if args.with.time.is_some() {
        ctrl_c::stops(guest.interrupter()?)?;
    }
    if let Some(model) = &args.model {
        weights::add(&mut *guest, model)?;
    }
    let (results, ending) = Ending::of(call.run(&mut *guest));
    let mut outcome = Outcome::new(&**engine, ending);
    outcome.seconds = begin.elapsed().as_secs_f64();
    if args.with.invoke.is_some() {
        outcome.results = results.map(|results| results.iter().map(invoke::show).collect());
    }
    if let Some(wasi) = guest.state::<Wasi>().filter(|_| args.json) {
        outcome = outcome.with_output(&wasi.stdout(), &wasi.stderr());
        outcome = outcome.with_memories(Memories::of(&*guest));
    }
    Ok(outcome)
}

/// A module in binary form, or something else, of which the engine's interface says what it is.
fn read(path: &Path) -> Result<Vec<u8>, Failure> {
    let source = Source::open(path)?;
    let mut wasm = Vec::new();
    let read = source.reader().read_to_end(&mut wasm);
    read.map_err(|error| format!("cannot read {}: {error}", path.display()))?;
    Ok(wasm)
}

/// What is to be called.
struct Call {
    /// The exports, one after another, each with its arguments.
    exports: Vec<(String, Vec<Value>)>,
}

impl Call {
    fn choose(module: &dyn Module, args: &Args) -> Result<Self, Failure> {
        let functions = module.info().functions();
        let Some(name) = &args.with.invoke else {
            if functions.contains_key("_start") {
                return Ok(Self { exports: vec![("_start".into(), Vec::new())] });
            }
            let names: Vec<_> = functions.keys().map(String::as_str).collect();
            let there = if names.is_empty() { "nothing".into() } else { names.join(", ") };
            let wrong = format!(
                "{} is no command: it has no _start. Name the function to call with --invoke; it \
                 exports {there}",
                args.guest.display()
            );
            return Err(Failure::usage(wrong));
        };
        let mut exports = Vec::new();
        if name != "_initialize" && functions.contains_key("_initialize") {
            exports.push(("_initialize".into(), Vec::new()));
        }
        // Which functions there are, says the call of one that there is not.
        let given = match functions.get(name) {
            Some(ty) => invoke::arguments(name, ty, &args.args)?,
            None => Vec::new(),
        };
        exports.push((name.clone(), given));
        Ok(Self { exports })
    }

    /// The results of the last one.
    fn run(&self, guest: &mut dyn Runtime) -> polychord::api::Result<Vec<Value>> {
        let mut results = Vec::new();
        for (export, args) in &self.exports {
            results = guest.call(export, args)?;
        }
        Ok(results)
    }
}

/// What WASI gives to the guest.
fn context(args: &Args) -> Result<Wasi, Failure> {
    let name = args.guest.file_name().unwrap_or(args.guest.as_os_str());
    let mut wasi = WasiBuilder::new().arg(name.to_string_lossy());
    if args.with.invoke.is_none() {
        wasi = wasi.args(&args.args);
    }
    for text in &args.with.directories {
        let Directory { host, guest, access } = Directory::parse(text);
        wasi = wasi.directory(host, guest, access);
    }
    for variable in &args.with.variables {
        let (name, value) = variable.split_once('=').ok_or_else(|| {
            Failure::usage(format!("--env {variable} is not of the form NAME=VALUE"))
        })?;
        wasi = wasi.env(name, value);
    }
    if args.with.reproducible {
        wasi = wasi.clock(Clock::Fixed(MILLENNIUM)).random(Random::Seed(0));
    }
    let stdout = output(args.json, std::io::stdout());
    let stderr = output(args.json, std::io::stderr());
    Ok(wasi.stdin(Input::Inherited).stdout(stdout).stderr(stderr).build()?)
}

/// A stream of this process. On a terminal, what the guest writes commands nothing.
fn output(captured: bool, stream: impl Write + IsTerminal + Send + 'static) -> Output {
    match () {
        () if captured => Output::Captured,
        () if stream.is_terminal() => Output::writer(AtOnce(Plain::new(stream))),
        () => Output::Inherited,
    }
}

/// What a guest has written is seen at once, also if it is no line yet.
struct AtOnce<W>(W);

impl<W: Write> Write for AtOnce<W> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        let written = self.0.write(bytes)?;
        self.0.flush()?;
        Ok(written)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.0.flush()
    }
}

impl GuestArgs {
    fn limits(&self) -> Limits {
        let mut limits = Limits::default();
        if let Some(memory) = self.memory {
            limits = limits.memory_bytes(memory.as_u64());
        }
        match self.time {
            Some(time) => limits.call_time(time),
            None => limits,
        }
    }

    /// A file that somebody runs is trusted as programs are, unless they say otherwise.
    pub(super) fn author(&self) -> Author {
        if self.untrusted { Author::Unknown } else { Author::Trusted }
    }

    /// The arguments that ask for this in another run of this program.
    pub(crate) fn args(&self) -> Vec<String> {
        let each = |option: &str, values: &[String]| {
            values.iter().flat_map(|value| [option.to_owned(), value.clone()]).collect::<Vec<_>>()
        };
        let mut args = each("--dir", &self.directories);
        args.extend(each("--env", &self.variables));
        let memory = self.memory.map(|size| format!("{}B", size.as_u64()));
        let time = self.time.map(|time| format!("{}ms", time.as_millis()));
        for (option, value) in
            [("--memory", memory), ("--time", time), ("--invoke", self.invoke.clone())]
        {
            args.extend(value.into_iter().flat_map(|value| [option.to_owned(), value]));
        }
        args.extend(self.untrusted.then(|| "--untrusted".to_owned()));
        args.extend(self.reproducible.then(|| "--reproducible".to_owned()));
        args
    }

    /// With the same clock and the same random numbers in each run.
    pub(crate) fn reproducible(&self) -> Self {
        Self { reproducible: true, ..self.clone() }
    }
}

/// What `--dir` says.
#[derive(Debug, PartialEq, Eq)]
struct Directory {
    host: PathBuf,
    guest: String,
    access: Access,
}

impl Directory {
    fn parse(text: &str) -> Self {
        let (text, access) = match text.strip_suffix(":ro") {
            Some(text) => (text, Access::ReadOnly),
            None => (text, Access::ReadWrite),
        };
        let (host, guest) = text.split_once("::").unwrap_or((text, text));
        Self { host: host.into(), guest: guest.into(), access }
    }
}

/// A time: a number with `ms`, `s`, `m` or `h` behind it.
fn parse_time(text: &str) -> Result<Duration, String> {
    let digits = text.len() - text.trim_start_matches(|c: char| c.is_ascii_digit()).len();
    let (number, unit) = text.split_at(digits);
    let of = |milliseconds: u64| {
        let number: u64 = number.parse().ok()?;
        Some(Duration::from_millis(number.checked_mul(milliseconds)?))
    };
    let time = match unit {
        "ms" => of(1),
        "s" => of(1_000),
        "m" => of(60_000),
        "h" => of(3_600_000),
        _ => None,
    };
    time.ok_or_else(|| "a time is a number with a unit: 500ms, 30s, 2m or 1h".into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn directories_have_a_path_in_the_guest_and_may_be_read_only() {
        let parsed = |text| {
            let Directory { host, guest, access } = Directory::parse(text);
            (host.to_str().unwrap().to_owned(), guest, access)
        };
        let own = |host: &str, guest: &str, access| (host.to_owned(), guest.to_owned(), access);
        assert_eq!(parsed("."), own(".", ".", Access::ReadWrite));
        assert_eq!(parsed("/tmp::/data"), own("/tmp", "/data", Access::ReadWrite));
        assert_eq!(parsed("/tmp::/data:ro"), own("/tmp", "/data", Access::ReadOnly));
        assert_eq!(parsed("C:\\x:ro"), own("C:\\x", "C:\\x", Access::ReadOnly));
    }

    #[test]
    fn times_have_a_unit() {
        assert_eq!(parse_time("30s"), Ok(Duration::from_secs(30)));
        assert_eq!(parse_time("500ms"), Ok(Duration::from_millis(500)));
        assert_eq!(parse_time("2m"), Ok(Duration::from_secs(120)));
        for text in ["", "30", "s", "1.5s", "-1s", "18446744073709551615h", "1d"] {
            assert!(parse_time(text).is_err(), "{text}");
        }
    }
}

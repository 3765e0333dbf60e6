//! From a file to the end of the guest that is in it.

use std::io::{IsTerminal, Read as _, Write};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use polychord::api::imports::Imports;
use polychord::api::{Engine, Error, Instantiation, Module, ModuleLimits, Runtime, Source, Value};
use polychord::wasi::{self, Clock, Input, Output, Random, Wasi, WasiBuilder};

use super::args::{Args, Directory};
use super::ending::Ending;
use super::outcome::{Memories, Outcome};
use super::{invoke, weights};
use crate::cli::Failure;
use crate::cli::ctrl_c;
use crate::cli::engine::Author;
use crate::cli::terminal::Plain;

/// Beginning of the year 2000, for reproducible runs.
const MILLENNIUM: Duration = Duration::from_secs(946_684_800);

/// Runs a guest to its end.
pub(super) fn run(args: &Args, engine: &Arc<dyn Engine>) -> Result<Outcome, Failure> {
    let (module, interruptible) = compile(args, engine)?;
    let call = Call::choose(&*module, args)?;
    let mut imports = Imports::new();
    wasi::add_to_imports::<Wasi>(&mut imports)?;
    let limits = args.with.limits(interruptible);
    let start = Instantiation::new(&limits).imports(&imports).state(context(args)?);
    let begin = Instant::now();
    let mut guest = match module.instantiate_with(start) {
        Ok(guest) => guest,
        // Its start function has called proc_exit.
        Err(error @ Error::Exit { .. }) => {
            return Ok(Outcome::new(&**engine, Ending::of::<()>(Err(error)).1));
        }
        Err(error) => return Err(error.into()),
    };
    if interruptible {
        // The first one ends the call.
        let (interrupter, mut asked) = (guest.interrupter()?, false);
        ctrl_c::stops(move || !std::mem::replace(&mut asked, true) && interrupter.interrupt())?;
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

/// Compiles the code of a guest that Ctrl-C stops. An engine that cannot compile that, which is larger, may
/// do with less: Ctrl-C ends the whole program then.
pub(super) fn compile(
    args: &Args,
    engine: &Arc<dyn Engine>,
) -> Result<(Arc<dyn Module>, bool), Failure> {
    let wasm = &read(&args.guest)?;
    let limits = match args.with.author() {
        Author::Trusted => ModuleLimits::trusted(),
        Author::Unknown => ModuleLimits::default(),
    };
    let can_stop = engine.capabilities().time_limit;
    if can_stop {
        match engine.compile_within(wasm, &limits.clone().only_stoppable()) {
            Err(Error::Compile { .. }) if args.with.time.is_none() => {}
            done => return Ok((done?, true)),
        }
    }
    Ok((engine.compile_within(wasm, &limits)?, false))
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

//! Choosing and opening an engine.

use std::sync::Arc;

use clap::ValueEnum;
use clap::builder::PossibleValuesParser;
use polychord::api::Engine;
#[cfg(any(feature = "wasmer", feature = "wasmtime"))]
use polychord::api::spi::CompilerCommand;

use super::Failure;

#[derive(Clone, Debug, clap::Args)]
pub(crate) struct EngineArgs {
    /// The engine that runs the guest; by default the first that is compiled in
    #[arg(short, long, value_parser = PossibleValuesParser::new(polychord::KNOWN_ENGINES))]
    engine: Option<String>,

    #[command(flatten)]
    choices: Choices,
}

/// How an engine should be, where it leaves a choice.
#[derive(Clone, Copy, Debug, Default, clap::Args)]
pub(crate) struct Choices {
    /// Compile guests in a process of its own, with limits of memory and time; WasmEdge always does
    #[arg(long)]
    isolate_compiler: bool,

    /// What compiles guests for Wasmer
    #[arg(long, value_enum, default_value_t)]
    wasmer_compiler: WasmerCompiler,

    /// How WasmEdge runs guests
    #[arg(long, value_enum, default_value_t)]
    wasmedge_mode: WasmEdgeMode,
}

/// What compiles guests for Wasmer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum WasmerCompiler {
    /// Starts fast
    #[default]
    Cranelift,
    /// Starts later; in builds with the feature wasmer-llvm
    Llvm,
}

/// How WasmEdge runs guests.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum WasmEdgeMode {
    /// Compiled ahead of time, and kept in the cache
    #[default]
    Aot,
    /// Interpreted: about a hundred times slower
    Interpreter,
}

impl EngineArgs {
    /// Opens the engine that was asked for.
    pub(crate) fn open(&self) -> Result<Arc<dyn Engine>, Failure> {
        let name = match &self.engine {
            Some(name) => Some(name.as_str()),
            None => polychord::default_engine(),
        };
        let known = polychord::KNOWN_ENGINES.join(", ");
        let missing =
            || format!("no engine is compiled in: build with --features and one of {known}");
        open(name.ok_or_else(missing)?, self.choices)
    }
}

impl Choices {
    /// The arguments that make these choices in another run of this program.
    pub(crate) fn args(self) -> Vec<String> {
        fn arg(name: &str, value: impl ValueEnum) -> String {
            let value = value.to_possible_value();
            format!("--{name}={}", value.as_ref().map_or("", |value| value.get_name()))
        }
        let isolate = self.isolate_compiler.then(|| "--isolate-compiler".to_owned());
        let choices = [
            arg("wasmer-compiler", self.wasmer_compiler),
            arg("wasmedge-mode", self.wasmedge_mode),
        ];
        choices.into_iter().chain(isolate).collect()
    }
}

/// An engine of this build in one of its ways to run guests, or why it cannot be opened.
pub(crate) struct Opened {
    pub(crate) name: &'static str,
    pub(crate) engine: Result<Arc<dyn Engine>, Failure>,
}

/// Opens every engine of this build, with every choice that it leaves.
pub(crate) fn open_all() -> Vec<Opened> {
    let default = Choices::default();
    let llvm = Choices { wasmer_compiler: WasmerCompiler::Llvm, ..default };
    let interpreter = Choices { wasmedge_mode: WasmEdgeMode::Interpreter, ..default };
    let mut all = Vec::new();
    for name in polychord::available() {
        let mut add = |choices| all.push(Opened { name, engine: open(name, choices) });
        add(default);
        match name {
            "wasmer" if cfg!(feature = "wasmer-llvm") => add(llvm),
            "wasmedge" => add(interpreter),
            _ => {}
        }
    }
    all
}

fn open(name: &str, choices: Choices) -> Result<Arc<dyn Engine>, Failure> {
    match name {
        "wasmer" => wasmer::open(choices),
        "wasmtime" => wasmtime::open(choices),
        "wasmedge" => wasmedge::open(choices.wasmedge_mode),
        _ => Ok(polychord::open(name)?),
    }
}

/// The hidden command by which this program compiles guests for itself.
#[derive(Debug, clap::Args)]
pub(crate) struct CompileArgs {
    engine: String,
    args: Vec<std::ffi::OsString>,
}

/// Serves the hidden command.
pub(crate) fn compile(args: &CompileArgs) -> Result<(), Failure> {
    match args.engine.as_str() {
        "wasmer" => wasmer::compile(&args.args),
        "wasmtime" => wasmtime::compile(&args.args),
        other => Err(format!("no compiler of {other} runs in a process of its own").into()),
    }
}

/// This program, as a compiler for an engine, if guests are to be compiled in another process.
#[cfg(any(feature = "wasmer", feature = "wasmtime"))]
fn compiler(engine: &str, choices: Choices) -> Result<Option<CompilerCommand>, Failure> {
    if !choices.isolate_compiler {
        return Ok(None);
    }
    let program = std::env::current_exe()?;
    Ok(Some(CompilerCommand::new(program).arg("compile-guest").arg(engine)))
}

#[cfg(feature = "wasmtime")]
mod wasmtime {
    use std::ffi::OsString;
    use std::sync::Arc;

    use polychord::api::Engine;
    use polychord::wasmtime::{WasmtimeEngine, run_compiler};

    use super::{Choices, Failure, compiler};

    pub(super) fn open(choices: Choices) -> Result<Arc<dyn Engine>, Failure> {
        let engine = WasmtimeEngine::new()?;
        Ok(match compiler("wasmtime", choices)? {
            Some(command) => Arc::new(engine.isolate(command)),
            None => Arc::new(engine),
        })
    }

    pub(super) fn compile(args: &[OsString]) -> Result<(), Failure> {
        Ok(run_compiler(args)?)
    }
}

#[cfg(not(feature = "wasmtime"))]
mod wasmtime {
    use std::ffi::OsString;
    use std::sync::Arc;

    use polychord::api::Engine;

    use super::{Choices, Failure};

    /// Opening by name says how Wasmtime is compiled in.
    pub(super) fn open(_: Choices) -> Result<Arc<dyn Engine>, Failure> {
        Ok(polychord::open("wasmtime")?)
    }

    pub(super) fn compile(_: &[OsString]) -> Result<(), Failure> {
        Ok(polychord::open("wasmtime").map(drop)?)
    }
}

#[cfg(feature = "wasmer")]
mod wasmer {
    use std::ffi::OsString;
    use std::sync::Arc;

    use polychord::api::Engine;
    use polychord::wasmer::{Compiler, WasmerEngine, run_compiler};

    use super::{Choices, Failure, WasmerCompiler, compiler};

    pub(super) fn open(choices: Choices) -> Result<Arc<dyn Engine>, Failure> {
        let by = match choices.wasmer_compiler {
            WasmerCompiler::Cranelift => Compiler::Cranelift,
            WasmerCompiler::Llvm => Compiler::Llvm,
        };
        let engine = WasmerEngine::with_compiler(by)?;
        Ok(match compiler("wasmer", choices)? {
            Some(command) => Arc::new(engine.isolate(command)),
            None => Arc::new(engine),
        })
    }

    pub(super) fn compile(args: &[OsString]) -> Result<(), Failure> {
        Ok(run_compiler(args)?)
    }
}

#[cfg(not(feature = "wasmer"))]
mod wasmer {
    use std::ffi::OsString;
    use std::sync::Arc;

    use polychord::api::Engine;

    use super::{Choices, Failure};

    /// Opening by name says how Wasmer is compiled in.
    pub(super) fn open(_: Choices) -> Result<Arc<dyn Engine>, Failure> {
        Ok(polychord::open("wasmer")?)
    }

    pub(super) fn compile(_: &[OsString]) -> Result<(), Failure> {
        Ok(polychord::open("wasmer").map(drop)?)
    }
}

#[cfg(feature = "wasmedge")]
pub(crate) mod wasmedge {
    use std::sync::Arc;

    use polychord::api::Engine;
    use polychord::wasmedge::{CompilerCommand, Config, Mode, WasmEdgeEngine, run_compiler};

    use super::{Failure, WasmEdgeMode};
    use crate::cli::program::this_program;

    /// The hidden command by which this program compiles guests for itself: LLVM ends the
    /// process on some modules.
    #[derive(Debug, clap::Args)]
    pub(crate) struct CompileArgs {
        args: Vec<std::ffi::OsString>,
    }

    pub(crate) fn compile(args: &CompileArgs) -> Result<(), Failure> {
        Ok(run_compiler(&args.args)?)
    }

    pub(super) fn open(mode: WasmEdgeMode) -> Result<Arc<dyn Engine>, Failure> {
        let mode = match mode {
            WasmEdgeMode::Aot => Mode::Aot,
            WasmEdgeMode::Interpreter => Mode::Interpreter,
        };
        let compiler = CompilerCommand::new(this_program()?).arg("wasmedge-compile");
        let config = Config { mode, compiler: Some(compiler), ..Config::default() };
        Ok(Arc::new(WasmEdgeEngine::with_config(config)?))
    }
}

#[cfg(not(feature = "wasmedge"))]
pub(crate) mod wasmedge {
    use std::sync::Arc;

    use polychord::api::Engine;

    use super::{Failure, WasmEdgeMode};

    /// Opening by name says how WasmEdge is compiled in.
    pub(super) fn open(_: WasmEdgeMode) -> Result<Arc<dyn Engine>, Failure> {
        Ok(polychord::open("wasmedge")?)
    }
}

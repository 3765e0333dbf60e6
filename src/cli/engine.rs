//! Choosing and opening an engine.

use std::sync::Arc;

use clap::ValueEnum;
use clap::builder::PossibleValuesParser;
use polychord::api::Engine;

use super::Failure;

#[derive(Clone, Debug, clap::Args)]
pub(crate) struct EngineArgs {
    /// The engine that runs the guest; by default the first that is compiled in
    #[arg(short, long, value_parser = PossibleValuesParser::new(polychord::KNOWN_ENGINES))]
    engine: Option<String>,

    /// How WasmEdge runs guests
    #[arg(long, value_enum, default_value_t)]
    wasmedge_mode: WasmEdgeMode,
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
        open(name.ok_or_else(missing)?, self.wasmedge_mode)
    }
}

/// Opens every engine of this build, in every mode.
pub(crate) fn open_all() -> Result<Vec<Arc<dyn Engine>>, Failure> {
    let mut all = Vec::new();
    for name in polychord::available() {
        let modes: &[_] = match name {
            "wasmedge" => &[WasmEdgeMode::Aot, WasmEdgeMode::Interpreter],
            _ => &[WasmEdgeMode::Aot],
        };
        for mode in modes {
            all.push(open(name, *mode)?);
        }
    }
    Ok(all)
}

fn open(name: &str, mode: WasmEdgeMode) -> Result<Arc<dyn Engine>, Failure> {
    match name {
        "wasmedge" => wasmedge::open(mode),
        _ => Ok(polychord::open(name)?),
    }
}

#[cfg(feature = "wasmedge")]
pub(crate) mod wasmedge {
    use std::sync::Arc;

    use polychord::api::Engine;
    use polychord::wasmedge::{CompilerCommand, Config, Mode, WasmEdgeEngine, run_compiler};

    use super::{Failure, WasmEdgeMode};

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
        let program = std::env::current_exe()?;
        let compiler = CompilerCommand { program, args: vec!["wasmedge-compile".into()] };
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

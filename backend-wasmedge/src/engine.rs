use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;
use std::sync::Arc;

use polychord_runtime_api::abi::PAGE;
use polychord_runtime_api::spi::{CompilerCommand, Engine, Module, SignalUse, claim_signals};
use polychord_runtime_api::{Capabilities, Error, Memory64, ModuleInfo, RelaxedSimd, Result};
use wasmedge_sdk::config::{
    CommonConfigOptions, CompilerConfigOptions, ConfigBuilder, RuntimeConfigOptions,
};
use wasmedge_sdk::utils::CoreVersion;
use wasmedge_sdk::{CompilerOptimizationLevel, CompilerOutputFormat, LogManager, RunMode};

use crate::aot::Cache;
use crate::runtime::WasmEdgeModule;
use crate::{NAME, error, memory};

/// How WasmEdge runs guests.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mode {
    /// Compiled by LLVM ahead of time, into a cache; 32-bit memories only.
    #[default]
    Aot,
    /// Interpreted, about a hundred times slower; with 64-bit memories.
    Interpreter,
}

/// How a [`WasmEdgeEngine`] should be.
#[derive(Clone, Debug, Default)]
pub struct Config {
    /// How guests run.
    pub mode: Mode,
    /// Folder for compiled guests; by default `aot` in `$POLYCHORD_CACHE`, or in
    /// `polychord` in the user's cache folder. Nobody else may be able to write there.
    pub cache: Option<PathBuf>,
    /// A program that compiles, so that a crash of LLVM does not end this process; by
    /// default this process compiles.
    pub compiler: Option<CompilerCommand>,
}

/// WasmEdge, configured for speed and for what is safe in it.
pub struct WasmEdgeEngine {
    capabilities: Arc<Capabilities>,
    /// None when interpreting.
    cache: Option<Arc<Cache>>,
}

/// Largest memory that WasmEdge's allocator has room for, in pages: 8 GiB.
pub(crate) const MAX_PAGES64: u32 = 1 << 17;

impl WasmEdgeEngine {
    /// The version of WasmEdge that this crate is made for.
    pub const VERSION: &str = "0.17.1";

    /// An engine for this machine, with defaults but for the mode.
    ///
    /// # Errors
    ///
    /// Those of [`with_config`](Self::with_config).
    pub fn new(mode: Mode) -> Result<Self> {
        Self::with_config(Config { mode, ..Config::default() })
    }

    /// An engine for this machine.
    ///
    /// # Errors
    ///
    /// [`Error::EngineVersion`] if the linked library has another version, and
    /// [`Error::Compile`] if there is no safe place for compiled guests.
    pub fn with_config(config: Config) -> Result<Self> {
        check_version(&CoreVersion::version_string())?;
        // The library writes to stdout otherwise, a line for each trap.
        LogManager::log_off();
        let cache = match config.mode {
            Mode::Aot => Some(Arc::new(Cache::open(config.cache, config.compiler)?)),
            Mode::Interpreter => None,
        };
        Ok(Self { capabilities: Arc::new(capabilities(config.mode)), cache })
    }
}

impl Engine for WasmEdgeEngine {
    fn capabilities(&self) -> &Arc<Capabilities> {
        &self.capabilities
    }

    fn why_not(&self, field: &str) -> Option<&'static str> {
        (field == "memory64").then_some(
            "compiled by WasmEdge 0.17.1, accesses to a 64-bit memory are not checked and reach the \
             host's memory (WasmEdge#5282); its interpreter checks them",
        )
    }

    fn translate(&self, wasm: &[u8], info: Arc<ModuleInfo>) -> Result<Arc<dyn Module>> {
        if self.cache.is_some() {
            // From the first compiled guest on, WasmEdge's handlers stay (see the keeper), and
            // they pass nothing on.
            claim_signals(NAME, SignalUse::Exclusive)?;
        }
        Ok(Arc::new(WasmEdgeModule::new(wasm, info, self.cache.clone())?))
    }
}

impl fmt::Debug for WasmEdgeEngine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WasmEdgeEngine")
            .field("version", &Self::VERSION)
            .field("mode", &self.capabilities.execution)
            .finish_non_exhaustive()
    }
}

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Aot => "aot",
            Self::Interpreter => "interpreter",
        })
    }
}

impl FromStr for Mode {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, Self::Err> {
        [Self::Aot, Self::Interpreter]
            .into_iter()
            .find(|mode| mode.to_string() == name)
            .ok_or_else(|| format!("WasmEdge has the modes aot and interpreter, and not {name}"))
    }
}

fn capabilities(mode: Mode) -> Capabilities {
    let mut capabilities = Capabilities::new(
        NAME,
        WasmEdgeEngine::VERSION,
        match mode {
            Mode::Aot => "AOT",
            Mode::Interpreter => "interpreter",
        },
    );
    capabilities.memory64 = match mode {
        // Compiled accesses to 64-bit memories are not checked (WasmEdge#5282).
        Mode::Aot => Memory64::Host,
        Mode::Interpreter => Memory64::Native { max_bytes: u64::from(MAX_PAGES64) * PAGE },
    };
    capabilities.multi_memory = true;
    capabilities.relaxed_simd = match mode {
        Mode::Aot => RelaxedSimd::Faster,
        Mode::Interpreter => RelaxedSimd::Slower,
    };
    capabilities.mapping = memory::MAPPING;
    capabilities.time_limit = true;
    // Runaway recursion ends the process when compiled, and fills memory when interpreted.
    capabilities.stack_overflow_trap = false;
    capabilities.threads = true;
    capabilities
}

fn check_version(linked: &str) -> Result<()> {
    if linked == WasmEdgeEngine::VERSION {
        return Ok(());
    }
    Err(Error::EngineVersion {
        engine: NAME,
        expected: WasmEdgeEngine::VERSION,
        found: linked.to_owned(),
        advice: "docs/wasmedge.md says how to have the right library",
    })
}

/// What guests may use; everything else is off.
fn options(mode: Mode) -> CommonConfigOptions {
    CommonConfigOptions::new()
        .run_mode(match mode {
            // Nothing else runs compiled code: WasmEdge would interpret what it finds in the file.
            Mode::Aot => RunMode::Aot,
            Mode::Interpreter => RunMode::Interpreter,
        })
        .relax_simd(true)
        .multi_memories(true)
        .extended_const(true)
        .memory64(mode == Mode::Interpreter)
        .threads(false)
        .gc(false)
        .function_references(false)
        .tail_call(false)
        .exception_handling(false)
        .annotations(false)
        .component_model(false)
}

/// Settings for loading and starting guests whose memories have at most so many pages.
pub(crate) fn runtime_config(mode: Mode, max_pages: u32) -> Result<wasmedge_sdk::config::Config> {
    let runtime = RuntimeConfigOptions::new().max_memory_pages(max_pages);
    let config = ConfigBuilder::new(options(mode)).with_runtime_config(runtime).build();
    config.map_err(|e| error::instantiate(&e))
}

/// Settings for compiling.
pub(crate) fn compiler_config() -> Result<wasmedge_sdk::config::Config> {
    let compiler = CompilerConfigOptions::new()
        .optimization_level(CompilerOptimizationLevel::O3)
        .out_format(CompilerOutputFormat::Native);
    let config = ConfigBuilder::new(options(Mode::Aot)).with_compiler_config(compiler).build();
    config.map_err(|e| error::compile(&e.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_version_of_the_library_is_refused() {
        assert!(check_version("0.17.1").is_ok());
        for linked in ["0.17.0", "0.17.2", "0.14.1", ""] {
            let error = check_version(linked).unwrap_err().to_string();
            assert!(error.contains("0.17.1") && error.contains(linked), "{error}");
        }
    }

    #[test]
    fn modes_have_names() {
        for mode in [Mode::Aot, Mode::Interpreter] {
            assert_eq!(mode.to_string().parse(), Ok(mode));
        }
        assert!("jit".parse::<Mode>().unwrap_err().contains("jit"));
    }
}

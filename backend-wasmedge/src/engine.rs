//! WasmEdge as an engine: its capabilities, its version, and how it compiles.

use std::fmt;
use std::sync::Arc;

use polychord_runtime_api::abi::PAGE;
use polychord_runtime_api::spi::{Engine, Module, SignalUse, claim_signals};
use polychord_runtime_api::{Capabilities, Error, Memory64, ModuleInfo, RelaxedSimd, Result};
use wasmedge_sdk::LogManager;
use wasmedge_sdk::utils::CoreVersion;

use crate::aot::Cache;
use crate::config::{Config, MAX_PAGES64, Mode};
use crate::module::WasmEdgeModule;
use crate::{NAME, VERSION, memory};

/// WasmEdge, configured for speed and for what is safe in it.
///
/// ```
/// use polychord_backend_wasmedge::{Mode, WasmEdgeEngine};
/// use polychord_runtime_api::{Engine, Limits, Value};
///
/// let wasm = wat::parse_str(r#"(module (func (export "seven") (result i32) i32.const 7))"#).unwrap();
/// let module = WasmEdgeEngine::new(Mode::Interpreter)?.compile(&wasm)?;
/// let mut guest = module.instantiate(&Limits::default())?;
/// assert_eq!(guest.call("seven", &[])?, [Value::I32(7)]);
/// # Ok::<(), polychord_runtime_api::Error>(())
/// ```
pub struct WasmEdgeEngine {
    capabilities: Arc<Capabilities>,
    /// The cache of compiled guests; none for the interpreter.
    cache: Option<Arc<Cache>>,
}

impl WasmEdgeEngine {
    /// The version of WasmEdge that this crate is made for.
    pub const VERSION: &str = VERSION;

    /// An engine for this machine in this mode, otherwise with default settings.
    ///
    /// # Errors
    ///
    /// Returns the errors of [`with_config`](Self::with_config).
    pub fn new(mode: Mode) -> Result<Self> {
        Self::with_config(Config::new(mode))
    }

    /// An engine for this machine with these settings.
    ///
    /// # Errors
    ///
    /// [`Error::EngineVersion`] if the linked library has another version, and
    /// [`Error::Compile`] if no safe folder is available for compiled guests.
    pub fn with_config(config: Config) -> Result<Self> {
        check_version(&CoreVersion::version_string())?;
        // The library writes to stdout otherwise, a line for each trap.
        LogManager::log_off();
        let capabilities = capabilities(config.mode, config.compiler.is_some());
        let cache = match config.mode {
            Mode::Aot => Some(Arc::new(Cache::open(config.cache, config.compiler)?)),
            Mode::Interpreter => None,
        };
        Ok(Self { capabilities: Arc::new(capabilities), cache })
    }
}

impl Engine for WasmEdgeEngine {
    fn capabilities(&self) -> &Arc<Capabilities> {
        &self.capabilities
    }

    fn why_not(&self, field: &str) -> Option<&'static str> {
        (field == "memory64").then_some(
            "compiled by WasmEdge 0.17.1, accesses to a 64-bit memory are not checked and reach the \
             host's memory (WasmEdge#5282); its interpreter checks them, and an engine whose guests are compiled in \
             a process of their own (Config::compiler) lowers them to 32-bit ones",
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

/// What it can do in a mode, and if guests are compiled `apart`, in a process of their own.
fn capabilities(mode: Mode, apart: bool) -> Capabilities {
    let mut capabilities = Capabilities::new(
        NAME,
        VERSION,
        match mode {
            Mode::Aot => "AOT",
            Mode::Interpreter => "interpreter",
        },
    );
    capabilities.memory64 = match mode {
        // Compiled accesses to 64-bit memories are not checked (WasmEdge#5282). Lowered modules are compiled
        // without any, but LLVM 21 has crashed on one, which must not end this process.
        Mode::Aot if apart => Memory64::LOWERED,
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
    capabilities.reentrance = true;
    capabilities
}

fn check_version(linked: &str) -> Result<()> {
    if linked == VERSION {
        return Ok(());
    }
    Err(Error::EngineVersion {
        engine: NAME,
        expected: VERSION,
        found: linked.to_owned(),
        advice: "docs/wasmedge.md says how to install the right library",
    })
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
}

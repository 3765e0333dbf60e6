//! Wasmi as an engine: its capabilities, and how it compiles.

use std::fmt;
use std::sync::Arc;

use polychord_runtime_api::spi::{Engine, Module};
use polychord_runtime_api::{Capabilities, Memory64, ModuleInfo, RelaxedSimd, Result};
use wasmi::Config;

use crate::runtime::WasmiModule;
use crate::{NAME, error};

/// Wasmi, configured for the features that guests of Polychord may use.
pub struct WasmiEngine {
    capabilities: Arc<Capabilities>,
    engine: wasmi::Engine,
}

/// Largest memory that is claimed. Wasmi could have more, but writes zeros to every byte of a
/// memory when it grows: what a guest asks for, the machine has to have.
const MAX_MEMORY: u64 = 1 << 30;

impl WasmiEngine {
    /// The version of wasmi that this crate was built with.
    pub const VERSION: &str = "1.1.0";

    /// An engine for this machine.
    ///
    /// # Errors
    ///
    /// None; other engines may not run on every machine.
    pub fn new() -> Result<Self> {
        let mut capabilities = Capabilities::new(NAME, Self::VERSION, "interpreter");
        capabilities.memory64 = Memory64::Native { max_bytes: MAX_MEMORY };
        capabilities.memory32_max_bytes = MAX_MEMORY;
        capabilities.multi_memory = true;
        capabilities.relaxed_simd = RelaxedSimd::Slower;
        // Memories are vectors, which move when they grow.
        capabilities.mapping = false;
        // Wasmi counts instructions, not time, and its start functions cannot be resumed.
        capabilities.time_limit = false;
        capabilities.stack_overflow_trap = true;
        capabilities.threads = true;
        capabilities.reentrance = true;
        let mut config = Config::default();
        config.wasm_multi_memory(true).wasm_memory64(true).wasm_relaxed_simd(true);
        Ok(Self { capabilities: Arc::new(capabilities), engine: wasmi::Engine::new(&config) })
    }
}

impl Engine for WasmiEngine {
    fn capabilities(&self) -> &Arc<Capabilities> {
        &self.capabilities
    }

    fn translate(&self, wasm: &[u8], info: Arc<ModuleInfo>) -> Result<Arc<dyn Module>> {
        let module = wasmi::Module::new(&self.engine, wasm).map_err(|e| error::compile(&e))?;
        Ok(Arc::new(WasmiModule::new(module, info)))
    }
}

impl fmt::Debug for WasmiEngine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WasmiEngine").field("version", &Self::VERSION).finish_non_exhaustive()
    }
}

use std::fmt;
use std::sync::{Arc, OnceLock};

use polychord_runtime_api::spi::{
    CompilerCommand, Engine, GUEST_STACK, Module, SignalUse, claim_signals,
};
use polychord_runtime_api::{AddressType, Capabilities, Memory64, ModuleInfo, RelaxedSimd, Result};
use wasmtime::{Config, OptLevel};

use crate::runtime::WasmtimeModule;
use crate::{NAME, error};

/// Wasmtime with Cranelift, configured for speed and containment.
pub struct WasmtimeEngine {
    capabilities: Arc<Capabilities>,
    engines: Arc<Engines>,
}

/// One engine for each kind of memory, made when it is first needed.
#[derive(Default)]
pub(crate) struct Engines {
    engines: [OnceLock<wasmtime::Engine>; 2],
    /// What compiles; by default this process.
    pub(crate) compiler: Option<CompilerCommand>,
}

/// Address space set aside for a 64-bit memory, which thus never moves: its pages may be
/// mappings. 256 GiB let some hundred guests live in a process with 47-bit addresses.
const WIDE: u64 = 256 << 30;

impl WasmtimeEngine {
    /// The version of Wasmtime that this crate was built with, as Wasmtime tells it: a program
    /// that depends on this crate may have a later one in its lock file than our own tests.
    pub const VERSION: &str = wasmtime_environ::VERSION;

    /// An engine for this machine.
    ///
    /// # Errors
    ///
    /// [`Error::Instantiate`](polychord_runtime_api::Error::Instantiate) if Wasmtime cannot
    /// generate code for this machine, and
    /// [`Error::SignalConflict`](polychord_runtime_api::Error::SignalConflict) if compiled guests
    /// of WasmEdge run in this process.
    pub fn new() -> Result<Self> {
        claim_signals(NAME, SignalUse::Shared)?;
        let mut capabilities = Capabilities::new(NAME, Self::VERSION, "Cranelift");
        capabilities.memory64 = Memory64::Native { max_bytes: WIDE };
        capabilities.multi_memory = true;
        capabilities.relaxed_simd = RelaxedSimd::Faster;
        capabilities.mapping = cfg!(unix);
        capabilities.time_limit = true;
        capabilities.stack_overflow_trap = true;
        capabilities.threads = true;
        let engines = Arc::new(Engines::default());
        engines.get(AddressType::I32)?;
        Ok(Self { capabilities: Arc::new(capabilities), engines })
    }
}

impl WasmtimeEngine {
    /// Has modules compiled in a process of its own, by [`run_compiler`](crate::run_compiler).
    #[must_use]
    pub fn isolate(self, compiler: CompilerCommand) -> Self {
        let engines = Engines { compiler: Some(compiler), ..Engines::default() };
        Self { engines: Arc::new(engines), ..self }
    }
}

impl Engines {
    pub(crate) fn get(&self, address: AddressType) -> Result<&wasmtime::Engine> {
        let slot = &self.engines[usize::from(address == AddressType::I64)];
        if let Some(engine) = slot.get() {
            return Ok(engine);
        }
        let engine = configure(address)?;
        Ok(slot.get_or_init(|| engine))
    }
}

impl Engine for WasmtimeEngine {
    fn capabilities(&self) -> &Arc<Capabilities> {
        &self.capabilities
    }

    fn translate(&self, wasm: &[u8], info: Arc<ModuleInfo>) -> Result<Arc<dyn Module>> {
        Ok(Arc::new(WasmtimeModule::new(self.engines.clone(), wasm, info)?))
    }
}

impl fmt::Debug for WasmtimeEngine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WasmtimeEngine").field("version", &Self::VERSION).finish_non_exhaustive()
    }
}

/// For 32-bit memories guard pages take the place of bounds checks; that is the default.
fn configure(address: AddressType) -> Result<wasmtime::Engine> {
    let mut config = Config::new();
    config
        .cranelift_opt_level(OptLevel::Speed)
        .parallel_compilation(true)
        .wasm_relaxed_simd(true)
        .wasm_multi_memory(true)
        .wasm_memory64(true)
        .wasm_backtrace_max_frames(None)
        .max_wasm_stack(GUEST_STACK)
        .memory_may_move(false);
    if address == AddressType::I64 {
        config.memory_reservation(WIDE);
    }
    wasmtime::Engine::new(&config).map_err(|e| error::instantiate(&e))
}

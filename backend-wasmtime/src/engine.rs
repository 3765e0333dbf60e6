//! Wasmtime as an engine: its capabilities, and how it compiles.

use std::fmt;
use std::sync::Arc;

use polychord_code_cache::CodeCache;
use polychord_runtime_api::spi::{CompilerCommand, Engine, Module, SignalUse, claim_signals};
use polychord_runtime_api::{AddressType, Capabilities, Memory64, ModuleInfo, RelaxedSimd, Result};

use crate::NAME;
use crate::config::{Engines, WIDE};
use crate::module::WasmtimeModule;

/// Wasmtime with Cranelift, configured for speed and containment.
///
/// ```
/// use polychord_backend_wasmtime::WasmtimeEngine;
/// use polychord_runtime_api::{Engine, Limits, Value};
///
/// let wasm = wat::parse_str(r#"(module (func (export "seven") (result i32) i32.const 7))"#).unwrap();
/// let module = WasmtimeEngine::new()?.compile(&wasm)?;
/// let mut guest = module.instantiate(&Limits::default())?;
/// assert_eq!(guest.call("seven", &[])?, [Value::I32(7)]);
/// # Ok::<(), polychord_runtime_api::Error>(())
/// ```
pub struct WasmtimeEngine {
    capabilities: Arc<Capabilities>,
    engines: Arc<Engines>,
}

impl WasmtimeEngine {
    /// The version of Wasmtime that this crate was built with, as Wasmtime's own crates state it.
    ///
    /// A program that depends on this crate may have a later one in its lock file than our own
    /// tests.
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
        Self::with_engines(Engines::for_this_process())
    }

    /// An engine whose code runs on any processor of this architecture: it uses none of this one's extensions
    /// (AVX, AVX2, AVX-512, FMA), and is slower. Results are the same bits.
    ///
    /// [`isolate`](Self::isolate) compiles for this processor again.
    ///
    /// ```
    /// use polychord_backend_wasmtime::WasmtimeEngine;
    ///
    /// let engine = WasmtimeEngine::portable()?;
    /// # Ok::<(), polychord_runtime_api::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// Returns the errors of [`new`](Self::new).
    pub fn portable() -> Result<Self> {
        Self::with_engines(Engines::for_this_process().for_any_processor())
    }

    fn with_engines(engines: Engines) -> Result<Self> {
        claim_signals(NAME, SignalUse::Shared)?;
        let mut capabilities = Capabilities::new(NAME, Self::VERSION, "Cranelift");
        capabilities.memory64 = Memory64::Native { max_bytes: WIDE };
        capabilities.multi_memory = true;
        capabilities.relaxed_simd = RelaxedSimd::Faster;
        capabilities.mapping = cfg!(unix);
        capabilities.time_limit = true;
        capabilities.stack_overflow_trap = true;
        capabilities.threads = true;
        capabilities.reentrance = true;
        let engines = Arc::new(engines);
        engines.get(AddressType::I32)?;
        Ok(Self { capabilities: Arc::new(capabilities), engines })
    }

    /// Compiles each module in a process of its own, by [`run_compiler`](crate::run_compiler).
    #[must_use]
    pub fn isolate(self, compiler: CompilerCommand) -> Self {
        let mut engines = Engines::isolated(compiler);
        engines.cache.clone_from(&self.engines.cache);
        Self { engines: Arc::new(engines), ..self }
    }

    /// Keeps compiled code, and loads what is kept already. A cache that cannot be used is as if it
    /// were empty.
    #[must_use]
    pub fn with_cache(self, cache: CodeCache) -> Self {
        Self { engines: Arc::new(self.engines.with_cache(cache)), ..self }
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

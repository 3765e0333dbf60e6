use std::fmt;
use std::sync::Arc;

use polychord_runtime_api::{
    Capabilities, Engine, Memory64, Module, ModuleInfo, RelaxedSimd, Result, SignalUse,
    claim_signals,
};
use wasmer::sys::{Cranelift, CraneliftOptLevel, EngineBuilder, Features};

use crate::runtime::WasmerModule;
use crate::{NAME, error, memory};

/// Wasmer with Cranelift, configured for speed and containment.
pub struct WasmerEngine {
    capabilities: Arc<Capabilities>,
    engine: wasmer::Engine,
}

impl WasmerEngine {
    /// The version of Wasmer that this crate was built with.
    pub const VERSION: &str = "7.4.2";

    /// An engine for this machine.
    ///
    /// # Errors
    ///
    /// [`Error::SignalConflict`](polychord_runtime_api::Error::SignalConflict) if compiled guests
    /// of WasmEdge run in this process.
    pub fn new() -> Result<Self> {
        claim_signals(NAME, SignalUse::Shared)?;
        let capabilities = Capabilities {
            engine: NAME,
            version: Self::VERSION,
            execution: "Cranelift",
            // Wasmer 7.4 does not validate modules with 64-bit memories.
            memory64: Memory64::Host,
            memory32_max_bytes: 1 << 32,
            multi_memory: true,
            // Its Cranelift translates relaxed dot products to widening multiplications.
            relaxed_simd: RelaxedSimd::Slower,
            mapping: memory::MAPPING,
            time_limit: cfg!(unix),
            stack_overflow_trap: true,
            threads: true,
        };
        Ok(Self { capabilities: Arc::new(capabilities), engine: configure() })
    }
}

impl Engine for WasmerEngine {
    fn capabilities(&self) -> &Arc<Capabilities> {
        &self.capabilities
    }

    fn translate(&self, wasm: &[u8], info: Arc<ModuleInfo>) -> Result<Arc<dyn Module>> {
        let module = wasmer::Module::new(&self.engine, wasm).map_err(|e| error::compile(&e))?;
        let engine = self.engine.clone();
        Ok(Arc::new(WasmerModule::new(engine, module, info, self.capabilities.clone())))
    }
}

impl fmt::Debug for WasmerEngine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WasmerEngine").field("version", &Self::VERSION).finish_non_exhaustive()
    }
}

/// Compiles on all cores, which is Wasmer's default.
fn configure() -> wasmer::Engine {
    let mut compiler = Cranelift::default();
    compiler.opt_level(CraneliftOptLevel::Speed);
    let mut features = Features::new();
    features
        .reference_types(true)
        .simd(true)
        .bulk_memory(true)
        .multi_value(true)
        .multi_memory(true)
        .relaxed_simd(true)
        .extended_const(true)
        .threads(false)
        .tail_call(false)
        .memory64(false);
    EngineBuilder::new(compiler).set_features(Some(features)).into()
}

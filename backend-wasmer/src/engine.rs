//! Wasmer as an engine: its capabilities, and how it compiles.

use std::fmt;
use std::sync::Arc;

use polychord_code_cache::CodeCache;
use polychord_runtime_api::spi::{CompilerCommand, Engine, Module, SignalUse, claim_signals};
use polychord_runtime_api::{Capabilities, Memory64, ModuleInfo, Result};

use crate::NAME;
use crate::code::Translator;
use crate::config::Compiler;
use crate::module::WasmerModule;

/// Wasmer, configured for speed and containment.
///
/// ```
/// use polychord_backend_wasmer::WasmerEngine;
/// use polychord_runtime_api::{Engine, Limits, Value};
///
/// let wasm = wat::parse_str(r#"(module (func (export "seven") (result i32) i32.const 7))"#).unwrap();
/// let module = WasmerEngine::new()?.compile(&wasm)?;
/// let mut guest = module.instantiate(&Limits::default())?;
/// assert_eq!(guest.call("seven", &[])?, [Value::I32(7)]);
/// # Ok::<(), polychord_runtime_api::Error>(())
/// ```
pub struct WasmerEngine {
    capabilities: Arc<Capabilities>,
    translator: Translator,
}

impl WasmerEngine {
    /// The version of Wasmer that this crate was built with, as Wasmer's own crates state it.
    pub const VERSION: &str = wasmer_types::VERSION;

    /// An engine for this machine, which compiles with Cranelift.
    ///
    /// # Errors
    ///
    /// Returns the errors of [`with_compiler`](Self::with_compiler).
    pub fn new() -> Result<Self> {
        Self::with_compiler(Compiler::Cranelift)
    }

    /// An engine for this machine, which compiles with `compiler`.
    ///
    /// # Errors
    ///
    /// [`Error::SignalConflict`](polychord_runtime_api::Error::SignalConflict) if compiled guests
    /// of WasmEdge run in this process, and [`Error::Compile`](polychord_runtime_api::Error::Compile)
    /// if the compiler is not compiled in.
    pub fn with_compiler(compiler: Compiler) -> Result<Self> {
        Self::made(compiler, false)
    }

    /// An engine whose code runs on any processor of this architecture (x86-64 with SSE 4.2): it uses none of this
    /// one's other extensions (AVX, AVX2, AVX-512, FMA), and is slower. Results are the same bits.
    ///
    /// [`isolate`](Self::isolate) compiles for this processor again.
    ///
    /// ```
    /// use polychord_backend_wasmer::WasmerEngine;
    ///
    /// let engine = WasmerEngine::portable()?;
    /// # Ok::<(), polychord_runtime_api::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// Returns the errors of [`new`](Self::new).
    pub fn portable() -> Result<Self> {
        Self::made(Compiler::Cranelift, true)
    }

    fn made(compiler: Compiler, portable: bool) -> Result<Self> {
        // Refused here if it is not compiled in.
        drop(compiler.engine(portable)?);
        claim_signals(NAME, SignalUse::Shared)?;
        let mut capabilities = Capabilities::new(NAME, Self::VERSION, compiler.execution());
        // Wasmer 7.4 does not validate modules with 64-bit memories.
        capabilities.memory64 = Memory64::LOWERED;
        capabilities.multi_memory = true;
        capabilities.relaxed_simd = compiler.relaxed_simd();
        capabilities.mapping = cfg!(unix);
        capabilities.time_limit = true;
        capabilities.stack_overflow_trap = true;
        capabilities.threads = true;
        capabilities.reentrance = true;
        let translator = Translator { compiler, portable, isolated: None, cache: None };
        Ok(Self { capabilities: Arc::new(capabilities), translator })
    }

    /// Compiles each module in a process of its own, by [`run_compiler`](crate::run_compiler).
    #[must_use]
    pub fn isolate(self, compiler: CompilerCommand) -> Self {
        Self { translator: Translator { isolated: Some(compiler), ..self.translator }, ..self }
    }

    /// Keeps compiled code, and loads what is kept already. A cache that cannot be used is as if it
    /// were empty.
    #[must_use]
    pub fn with_cache(self, cache: CodeCache) -> Self {
        Self { translator: Translator { cache: Some(cache), ..self.translator }, ..self }
    }
}

impl Engine for WasmerEngine {
    fn capabilities(&self) -> &Arc<Capabilities> {
        &self.capabilities
    }

    fn translate(&self, wasm: &[u8], info: Arc<ModuleInfo>) -> Result<Arc<dyn Module>> {
        // Each module has an engine of Wasmer's own, which keeps all code that was ever loaded by it.
        let (engine, translator) = (self.translator.engine()?, self.translator.clone());
        Ok(Arc::new(WasmerModule::new(engine, translator, wasm, info)?))
    }
}

impl fmt::Debug for WasmerEngine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WasmerEngine")
            .field("version", &Self::VERSION)
            .field("compiler", &self.capabilities.execution)
            .finish_non_exhaustive()
    }
}

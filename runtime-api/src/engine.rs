//! Engines and modules as programs use them. Implemented once, over what backends implement.

use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use crate::capability::{Capabilities, Requirements};
use crate::error::{Error, Result};
use crate::host::Host;
use crate::imports::{ExportType, ImportType, resolve};
use crate::instantiation::Instantiation;
use crate::limits::Limits;
use crate::live::{LiveGuest, PANICKED};
use crate::memory::view::View;
use crate::module::ModuleInfo;
use crate::module_limits::ModuleLimits;
use crate::runtime::Runtime;
use crate::spi::{self, Start};
use crate::{address_space, lowering, stack};

/// A WebAssembly engine, configured for one process.
///
/// Everything that implements [`spi::Engine`] is one, and [`compile`](Self::compile) does the same
/// for all: no backend can override it. Programs that stand between an engine and its user (test
/// doubles, recorders) may implement this trait, and forward to another engine.
///
/// ```
/// use std::sync::Arc;
///
/// use polychord_runtime_api::{Engine, Limits, Result, Value};
///
/// // `polychord::open("wasmtime")` gives such an engine.
/// fn add(engine: &Arc<dyn Engine>, wasm: &[u8]) -> Result<Vec<Value>> {
///     let mut guest = engine.compile(wasm)?.instantiate(&Limits::default())?;
///     guest.call("add", &[Value::I32(1), Value::I32(2)])
/// }
/// ```
pub trait Engine: fmt::Debug + Send + Sync {
    /// What this engine can do as it is configured.
    fn capabilities(&self) -> &Arc<Capabilities>;

    /// Validates a module against what this engine offers, and compiles it, within the limits that
    /// are safe for a module of unknown origin.
    ///
    /// # Errors
    ///
    /// [`Error::InvalidModule`] for bytes that are no module, [`Error::TooComplex`] for a module
    /// that could take too much to compile, [`Error::Unmet`] for a feature that this engine lacks, and [`Error::Compile`] if the engine
    /// refuses it all the same, or panics.
    fn compile(&self, wasm: &[u8]) -> Result<Arc<dyn Module>> {
        self.compile_within(wasm, &ModuleLimits::default())
    }

    /// Compiles a module within other limits than [`compile`](Self::compile).
    ///
    /// # Errors
    ///
    /// Returns the errors of [`compile`](Self::compile).
    fn compile_within(&self, wasm: &[u8], limits: &ModuleLimits) -> Result<Arc<dyn Module>>;
}

/// A compiled guest, ready to be instantiated many times and from many threads.
///
/// [`Engine::compile`] makes it of what the backend translated.
///
/// ```
/// use std::time::Duration;
///
/// use polychord_runtime_api::{Limits, Module, Result, Runtime};
///
/// fn two_guests(module: &dyn Module) -> Result<[Box<dyn Runtime>; 2]> {
///     let limits = Limits::default().memory_bytes(1 << 20).call_time(Duration::from_secs(1));
///     Ok([module.instantiate(&limits)?, module.instantiate(&limits)?])
/// }
/// ```
pub trait Module: Send + Sync {
    /// What the module imports and exports.
    fn info(&self) -> &Arc<ModuleInfo>;

    /// What its engine can do.
    fn capabilities(&self) -> &Arc<Capabilities>;

    /// Everything that the module imports, in its order.
    fn imports(&self) -> &[ImportType] {
        self.info().imports()
    }

    /// Everything that the module exports, in its order.
    fn exports(&self) -> &[ExportType] {
        self.info().exports()
    }

    /// Checks the limits against the engine and starts a guest that imports nothing but the functions
    /// of the module `env`.
    ///
    /// # Errors
    ///
    /// Returns the errors of [`instantiate_with`](Self::instantiate_with).
    fn instantiate(&self, limits: &Limits) -> Result<Box<dyn Runtime>> {
        self.instantiate_with(Instantiation::new(limits))
    }

    /// Checks the limits against the engine and the imports against the module, and starts a guest.
    ///
    /// # Errors
    ///
    /// [`Error::Imports`] with every import that is missing or has another type, [`Error::Unmet`] if
    /// the engine cannot enforce a limit, [`Error::TooLarge`] if the memories
    /// or tables that the guest starts with are beyond them, [`Error::Trap`] if its start function
    /// traps (or what else ends it: [`Error::Host`], [`Error::Exit`]), and [`Error::Instantiate`] if
    /// the engine cannot make it.
    fn instantiate_with(&self, with: Instantiation<'_>) -> Result<Box<dyn Runtime>>;
}

/// What a backend translated, with what was found out about it before.
struct Compiled {
    capabilities: Arc<Capabilities>,
    info: Arc<ModuleInfo>,
    /// How its memories are found in those of the engine.
    view: View,
    module: Arc<dyn spi::Module>,
    /// The name that the start function is exported by, if there is one.
    start: Option<String>,
}

impl<E: spi::Engine + ?Sized> Engine for E {
    fn capabilities(&self) -> &Arc<Capabilities> {
        spi::Engine::capabilities(self)
    }

    fn compile_within(&self, wasm: &[u8], limits: &ModuleLimits) -> Result<Arc<dyn Module>> {
        let capabilities = spi::Engine::capabilities(self).clone();
        let info = ModuleInfo::parse_within(wasm, &capabilities, limits);
        let info = info.map_err(|error| explain(error, |field| self.why_not(field)))?;
        let info = Arc::new(info);
        let lowered = lowering::lower(wasm, &info, &capabilities, limits)?;
        let view = lowered.view;
        let module = view.module().unwrap_or(&info).clone();
        let _span = tracing::debug_span!("compile", engine = capabilities.engine).entered();
        let failed = |error: polychord_passes::Error| {
            let reason = format!("its start function cannot be exported: {error}");
            Error::Compile { engine: capabilities.engine, reason }
        };
        // The host calls it: under the limits of any other call, and once the memories are known.
        let exported = polychord_passes::start::export(&lowered.wasm).map_err(failed)?;
        // A panic in the engine's compiler must not take the embedder down.
        let translate = || stack::with_room(|| self.translate(&exported.wasm, module.clone()));
        let compiled = catch_unwind(AssertUnwindSafe(translate));
        let module = compiled.unwrap_or_else(|_| {
            let reason = "its compiler panicked, which is a defect of the engine: report it to its \
                          authors, and try another engine";
            Err(Error::Compile { engine: capabilities.engine, reason: reason.into() })
        })?;
        Ok(Arc::new(Compiled { capabilities, info, view, module, start: exported.start }))
    }
}

/// A shared engine is one, too.
impl<E: Engine + ?Sized> Engine for Arc<E> {
    fn capabilities(&self) -> &Arc<Capabilities> {
        (**self).capabilities()
    }

    fn compile(&self, wasm: &[u8]) -> Result<Arc<dyn Module>> {
        (**self).compile(wasm)
    }

    fn compile_within(&self, wasm: &[u8], limits: &ModuleLimits) -> Result<Arc<dyn Module>> {
        (**self).compile_within(wasm, limits)
    }
}

impl Module for Compiled {
    fn info(&self) -> &Arc<ModuleInfo> {
        &self.info
    }

    fn capabilities(&self) -> &Arc<Capabilities> {
        &self.capabilities
    }

    fn instantiate_with(&self, with: Instantiation<'_>) -> Result<Box<dyn Runtime>> {
        let Instantiation { limits, imports, state } = with;
        let needs = Requirements { time_limit: limits.can_be_stopped(), ..Default::default() };
        needs.check(&self.capabilities)?;
        let Self { capabilities, info, view, .. } = self;
        let host = Host::new(capabilities.clone(), info.clone(), limits, view.clone())?;
        let host = Arc::new(host);
        let imports = lowering::items(view, resolve::resolve(&host, imports)?);
        let module = view.module().unwrap_or(info);
        let start = Start::new(host, module.clone(), imports);
        let start = || stack::with_room(|| self.module.start(start));
        let started = catch_unwind(AssertUnwindSafe(start)).unwrap_or_else(|_| {
            let (engine, reason) = (capabilities.engine, PANICKED.to_owned());
            Err(Error::Instantiate { engine, reason })
        });
        let started = started.map_err(|error| address_space::explain(error, module))?;
        let (host, mut instance) = started.into_parts();
        view.limit(&mut instance, host.memory_limit())?;
        let mut guest = LiveGuest::new(host, instance, state);
        if let Some(export) = &self.start {
            guest.start(export)?;
        }
        Ok(Box::new(guest))
    }
}

/// Adds to a refusal why the engine has to refuse.
fn explain(error: Error, why_not: impl Fn(&str) -> Option<&'static str>) -> Error {
    let Error::Unmet { engine, mut unmet } = error else { return error };
    for unmet in &mut unmet {
        if let Some(why) = why_not(unmet.field) {
            unmet.offered = format!("{}: {why}", unmet.offered);
        }
    }
    Error::Unmet { engine, unmet }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::idle::capabilities;

    #[derive(Debug)]
    struct Panics(Arc<Capabilities>);

    impl spi::Engine for Panics {
        fn capabilities(&self) -> &Arc<Capabilities> {
            &self.0
        }

        fn translate(&self, _wasm: &[u8], _info: Arc<ModuleInfo>) -> Result<Arc<dyn spi::Module>> {
            unreachable!("a kind of value that it does not know")
        }
    }

    #[test]
    fn a_compiler_that_panics_is_an_error() {
        let engine = Panics(Arc::new(capabilities()));
        let error = engine.compile(b"\0asm\x01\0\0\0").map(|_| ()).unwrap_err();
        assert!(matches!(error, Error::Compile { engine: "test", .. }), "{error}");
    }
}

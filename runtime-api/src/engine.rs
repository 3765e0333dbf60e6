use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use crate::address_space;
use crate::capability::{Capabilities, Requirements};
use crate::host::Host;
use crate::instance::{Start, Started};
use crate::limits::Limits;
use crate::module::ModuleInfo;
use crate::module_limits::ModuleLimits;
use crate::runtime::Runtime;
use crate::{Error, Result, stack};

/// A WebAssembly engine, configured for one process.
///
/// A backend implements [`capabilities`](Self::capabilities) and
/// [`translate`](Self::translate); users call [`compile`](Self::compile).
pub trait Engine: fmt::Debug + Send + Sync {
    /// What this engine can do as it is configured.
    fn capabilities(&self) -> &Arc<Capabilities>;

    /// Compiles a module that has been validated.
    ///
    /// # Errors
    ///
    /// [`Error::Compile`](crate::Error::Compile) if the engine refuses it all the same.
    fn translate(&self, wasm: &[u8], info: Arc<ModuleInfo>) -> Result<Arc<dyn Module>>;

    /// Why this engine has to refuse what a field of [`Requirements`] asks for, if there is more to
    /// say than that it does not offer it.
    fn why_not(&self, _field: &str) -> Option<&'static str> {
        None
    }

    /// Validates a module against what this engine offers, and compiles it, within the limits that
    /// are safe for a stranger's module. Not to be overridden: what it promises is not the
    /// backend's to decide.
    ///
    /// # Errors
    ///
    /// [`Error::InvalidModule`] for bytes that are no module, [`Error::TooComplex`] for a module
    /// that could take too much to compile, [`Error::Import`] for an import that no host offers,
    /// [`Error::Unmet`] for a feature that this engine lacks, and [`Error::Compile`] if the engine
    /// refuses it all the same, or panics.
    fn compile(&self, wasm: &[u8]) -> Result<Arc<dyn Module>> {
        self.compile_within(wasm, &ModuleLimits::default())
    }

    /// Compiles a module within other limits. Not to be overridden, either.
    ///
    /// # Errors
    ///
    /// Those of [`compile`](Self::compile).
    fn compile_within(&self, wasm: &[u8], limits: &ModuleLimits) -> Result<Arc<dyn Module>> {
        let info = ModuleInfo::parse_within(wasm, self.capabilities(), limits);
        let info = info.map_err(|error| explain(error, |field| self.why_not(field)))?;
        let _span = tracing::debug_span!("compile", engine = self.capabilities().engine).entered();
        // A panic in the engine's compiler must not take the embedder down.
        let translate = || stack::with_room(|| self.translate(wasm, Arc::new(info)));
        let compiled = catch_unwind(AssertUnwindSafe(translate));
        compiled.unwrap_or_else(|_| {
            let reason = "its compiler panicked, which is a defect of the engine: report it to its \
                          authors, and try another engine";
            Err(Error::Compile { engine: self.capabilities().engine, reason: reason.into() })
        })
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

/// A shared engine is one, too.
impl<E: Engine + ?Sized> Engine for Arc<E> {
    fn capabilities(&self) -> &Arc<Capabilities> {
        (**self).capabilities()
    }

    fn translate(&self, wasm: &[u8], info: Arc<ModuleInfo>) -> Result<Arc<dyn Module>> {
        (**self).translate(wasm, info)
    }

    fn why_not(&self, field: &str) -> Option<&'static str> {
        (**self).why_not(field)
    }

    fn compile(&self, wasm: &[u8]) -> Result<Arc<dyn Module>> {
        (**self).compile(wasm)
    }

    fn compile_within(&self, wasm: &[u8], limits: &ModuleLimits) -> Result<Arc<dyn Module>> {
        (**self).compile_within(wasm, limits)
    }
}

/// A compiled guest, ready to be instantiated many times and from many threads.
pub trait Module: Send + Sync {
    /// What the module imports and exports.
    fn info(&self) -> &Arc<ModuleInfo>;

    /// What its engine can do.
    fn capabilities(&self) -> &Arc<Capabilities>;

    /// Makes an instance that uses the host of `start` for its imports, and runs its start
    /// function. Implemented by a backend; users call [`instantiate`](Self::instantiate), which
    /// alone can make a [`Start`].
    ///
    /// # Errors
    ///
    /// Those of [`instantiate`](Self::instantiate).
    fn start(&self, start: Start) -> Result<Started>;

    /// Checks the limits against the engine and starts a guest.
    ///
    /// # Errors
    ///
    /// [`Error::Unmet`](crate::Error::Unmet) if the engine cannot enforce a limit,
    /// [`Error::TooLarge`](crate::Error::TooLarge) if the memories or tables that the guest starts
    /// with are beyond them, [`Error::Trap`](crate::Error::Trap) if its start function traps, and
    /// [`Error::Instantiate`](crate::Error::Instantiate) if the engine cannot make it.
    fn instantiate(&self, limits: &Limits) -> Result<Box<dyn Runtime>> {
        let needs = Requirements { time_limit: limits.call_time.is_some(), ..Default::default() };
        needs.check(self.capabilities())?;
        let host = Host::new(self.capabilities().clone(), self.info().clone(), limits.clone())?;
        let started = stack::with_room(|| self.start(Start::new(Arc::new(host))));
        let started = started.map_err(|error| address_space::explain(error, self.info()))?;
        Ok(started.into_runtime())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::idle::capabilities;

    #[derive(Debug)]
    struct Panics(Arc<Capabilities>);

    impl Engine for Panics {
        fn capabilities(&self) -> &Arc<Capabilities> {
            &self.0
        }

        fn translate(&self, _wasm: &[u8], _info: Arc<ModuleInfo>) -> Result<Arc<dyn Module>> {
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

use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

use crate::capability::{Capabilities, Requirements};
use crate::host::Host;
use crate::instance::{Start, Started};
use crate::module::ModuleInfo;
use crate::runtime::Runtime;
use crate::{Error, Result};

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

    /// Validates a module against what this engine offers, and compiles it.
    ///
    /// # Errors
    ///
    /// [`Error::InvalidModule`](crate::Error::InvalidModule) for bytes that are no module,
    /// [`Error::Import`](crate::Error::Import) for an import that no host offers,
    /// [`Error::Unmet`](crate::Error::Unmet) for a feature that this engine lacks, and
    /// [`Error::Compile`](crate::Error::Compile) if the engine refuses it all the same, or panics.
    fn compile(&self, wasm: &[u8]) -> Result<Arc<dyn Module>> {
        let info = ModuleInfo::parse(wasm, self.capabilities())?;
        let _span = tracing::debug_span!("compile", engine = self.capabilities().engine).entered();
        // A compiler that meets a module which nobody has thought of must not end the program.
        let compiled = catch_unwind(AssertUnwindSafe(|| self.translate(wasm, Arc::new(info))));
        compiled.unwrap_or_else(|_| {
            let reason = "its compiler panicked, which is a defect of the engine: report it to its \
                          authors, and try another engine";
            Err(Error::Compile { engine: self.capabilities().engine, reason: reason.into() })
        })
    }
}

/// A shared engine is one, too.
impl<E: Engine + ?Sized> Engine for Arc<E> {
    fn capabilities(&self) -> &Arc<Capabilities> {
        (**self).capabilities()
    }

    fn translate(&self, wasm: &[u8], info: Arc<ModuleInfo>) -> Result<Arc<dyn Module>> {
        (**self).translate(wasm, info)
    }

    fn compile(&self, wasm: &[u8]) -> Result<Arc<dyn Module>> {
        (**self).compile(wasm)
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
    /// [`Error::TooLarge`](crate::Error::TooLarge) if the guest's initial memory is beyond
    /// them, [`Error::Trap`](crate::Error::Trap) if its start function traps, and
    /// [`Error::Instantiate`](crate::Error::Instantiate) if the engine cannot make it.
    fn instantiate(&self, limits: &Limits) -> Result<Box<dyn Runtime>> {
        let needs = Requirements { time_limit: limits.call_time.is_some(), ..Default::default() };
        needs.check(self.capabilities())?;
        let host = Host::new(self.capabilities().clone(), self.info().clone(), limits.clone())?;
        Ok(self.start(Start::new(Arc::new(host)))?.into_runtime())
    }
}

/// How much a guest may use. Stacks are limited by the engine's own setting.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Most bytes of each linear memory, whoever grows it. At most 4 GiB are possible for a
    /// 32-bit memory, which is the default.
    pub memory_bytes: u64,
    /// Longest time that a call of the guest may take; none by default.
    pub call_time: Option<Duration>,
}

impl Default for Limits {
    fn default() -> Self {
        Self { memory_bytes: 1 << 32, call_time: None }
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

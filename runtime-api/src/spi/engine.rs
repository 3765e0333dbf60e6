//! The two traits of a backend that make guests: engines and modules.

use std::fmt;
use std::sync::Arc;

use crate::Result;
use crate::capability::Capabilities;
use crate::module::ModuleInfo;
use crate::spi::start::{Start, Started};

/// A WebAssembly engine, as a backend implements it: what it can do, and how it translates.
///
/// Every implementor is an [`Engine`](crate::Engine) of the host API by itself, whose
/// [`compile`](crate::Engine::compile) validates, counts and catches panics before and around
/// [`translate`](Self::translate):
///
/// ```
/// use std::sync::Arc;
///
/// use polychord_runtime_api::{Capabilities, Engine, Error, ModuleInfo, Result, spi};
///
/// /// An engine that refuses everything.
/// #[derive(Debug)]
/// struct Mine(Arc<Capabilities>);
///
/// impl spi::Engine for Mine {
///     fn capabilities(&self) -> &Arc<Capabilities> {
///         &self.0
///     }
///
///     fn translate(&self, _wasm: &[u8], _info: Arc<ModuleInfo>) -> Result<Arc<dyn spi::Module>> {
///         Err(Error::Compile { engine: "mine", reason: "it is not written yet".into() })
///     }
/// }
///
/// let engine = Mine(Arc::new(Capabilities::new("mine", "0.1", "interpreter")));
/// // Bytes that are no module never come to `translate`.
/// assert!(matches!(engine.compile(b"no module"), Err(Error::InvalidModule { .. })));
/// ```
///
/// A backend cannot change that:
///
/// ```compile_fail,E0119
/// use std::sync::Arc;
/// use polychord_runtime_api::{Capabilities, Engine, Module, ModuleInfo, ModuleLimits, Result, spi};
///
/// #[derive(Debug)]
/// struct Mine(Arc<Capabilities>);
///
/// impl spi::Engine for Mine {
///     fn capabilities(&self) -> &Arc<Capabilities> {
///         &self.0
///     }
///     fn translate(&self, _: &[u8], _: Arc<ModuleInfo>) -> Result<Arc<dyn spi::Module>> {
///         todo!()
///     }
/// }
///
/// impl Engine for Mine {
///     fn capabilities(&self) -> &Arc<Capabilities> {
///         &self.0
///     }
///     fn compile_within(&self, _: &[u8], _: &ModuleLimits) -> Result<Arc<dyn Module>> {
///         todo!("without validation")
///     }
/// }
/// ```
pub trait Engine: fmt::Debug + Send + Sync {
    /// What this engine can do as it is configured.
    fn capabilities(&self) -> &Arc<Capabilities>;

    /// Compiles a module that has been validated, and of which `info` tells what it declares. It has
    /// no start function: if there was one it is exported, and called by the host.
    ///
    /// # Errors
    ///
    /// [`Error::Compile`](crate::Error::Compile) if the engine refuses it all the same.
    fn translate(&self, wasm: &[u8], info: Arc<ModuleInfo>) -> Result<Arc<dyn Module>>;

    /// Why this engine has to refuse what a field of [`Requirements`](crate::Requirements) asks
    /// for, if there is more to say than that it does not offer it.
    fn why_not(&self, _field: &str) -> Option<&'static str> {
        None
    }
}

/// A compiled guest, as a backend implements it. Many guests may start from it, in many threads.
///
/// ```
/// use std::sync::Arc;
///
/// use polychord_runtime_api::Result;
/// use polychord_runtime_api::spi::{self, Instance, Start, Started};
///
/// struct Compiled;
///
/// impl spi::Module for Compiled {
///     fn start(&self, start: Start) -> Result<Started> {
///         let instance = instantiate(start.host().clone())?;
///         Ok(start.finish(instance))
///     }
/// }
/// # struct Guest;
/// # impl polychord_runtime_api::LinearMemories for Guest {
/// #     fn linear_memory(&self, _: usize) -> &[u8] { &[] }
/// #     fn linear_memory_mut(&mut self, _: usize) -> &mut [u8] { &mut [] }
/// # }
/// # impl Instance for Guest {
/// #     fn grow(&mut self, _: usize, _: u64) -> Result<u64> { Ok(0) }
/// #     fn invoke(&mut self, _: &str, _: &[polychord_runtime_api::Value], _: &mut [polychord_runtime_api::Value]) -> Result<()> { Ok(()) }
/// #     fn global(&mut self, _: spi::GlobalAt<'_>) -> Result<polychord_runtime_api::Value> { Ok(0.into()) }
/// #     fn set_global(&mut self, _: spi::GlobalAt<'_>, _: polychord_runtime_api::Value) -> Result<()> { Ok(()) }
/// # }
/// # fn instantiate(_: Arc<spi::Host>) -> Result<Guest> { Ok(Guest) }
/// ```
pub trait Module: Send + Sync {
    /// Makes an instance with the imports of `start`.
    ///
    /// Only [`Module::instantiate_with`](crate::Module::instantiate_with) makes a [`Start`], after it
    /// has checked limits and imports.
    ///
    /// # Errors
    ///
    /// [`Error::Trap`](crate::Error::Trap) if a segment does not fit, and
    /// [`Error::Instantiate`](crate::Error::Instantiate) if the engine cannot make the instance.
    fn start(&self, start: Start) -> Result<Started>;
}

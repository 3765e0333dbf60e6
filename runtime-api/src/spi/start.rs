//! How an instance gets to its host.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use crate::host::Host;
use crate::imports::Item;
use crate::module::ModuleInfo;
use crate::spi::instance::Instance;

/// The permission to start one guest: [`Module::instantiate`](crate::Module::instantiate) makes
/// it, and the backend uses it up.
///
/// ```
/// use polychord_runtime_api::spi::{Instance, Start, Started};
///
/// fn finish(start: Start, instance: impl Instance + Send + 'static) -> Started {
///     println!("at most {} bytes in each memory", start.host().memory_limit());
///     println!("imports {:?}", start.imports());
///     start.finish(instance)
/// }
/// ```
///
/// It has no other maker and cannot be copied, so no second guest starts with the host of the first:
///
/// ```compile_fail,E0451
/// fn again(host: std::sync::Arc<polychord_runtime_api::spi::Host>) -> polychord_runtime_api::spi::Start {
///     polychord_runtime_api::spi::Start { host }
/// }
/// ```
///
/// ```compile_fail,E0599
/// fn twice(start: polychord_runtime_api::spi::Start) {
///     let other = start.clone();
/// }
/// ```
#[derive(Debug)]
pub struct Start {
    host: Arc<Host>,
    /// The module as the engine has it.
    module: Arc<ModuleInfo>,
    imports: Vec<Item>,
}

/// A guest that has started, on its way to the user.
///
/// Its instance is reached through the [`Runtime`](crate::Runtime) alone from here on, so that it is not used or
/// dropped beside the host that looks after its pages. An engine that wraps another one passes
/// this on as it is:
///
/// ```
/// use polychord_runtime_api::Result;
/// use polychord_runtime_api::spi::{Module, Start, Started};
///
/// struct Wrapper<M>(M);
///
/// impl<M: Module> Module for Wrapper<M> {
///     fn start(&self, start: Start) -> Result<Started> {
///         self.0.start(start)
///     }
/// }
/// ```
///
/// What is in it stays there:
///
/// ```compile_fail,E0616
/// fn open(started: polychord_runtime_api::spi::Started) {
///     let instance = started.instance;
/// }
/// ```
pub struct Started {
    host: Arc<Host>,
    instance: Box<dyn Instance + Send>,
}

impl Start {
    pub(crate) const fn new(host: Arc<Host>, module: Arc<ModuleInfo>, imports: Vec<Item>) -> Self {
        Self { host, module, imports }
    }

    /// What to define for the guest, in the order of
    /// [`ModuleInfo::imports`](crate::ModuleInfo::imports) of the module that was translated. Everything has the type that the module
    /// declares, and memories are limited to what the guest may have.
    #[must_use]
    pub fn imports(&self) -> &[Item] {
        &self.imports
    }

    /// The host's side of the guest, for its imports and limits.
    #[must_use]
    pub const fn host(&self) -> &Arc<Host> {
        &self.host
    }

    /// Defines what the guest imports, in the order of its module. What a module imports twice is
    /// defined once.
    ///
    /// # Errors
    ///
    /// Returns the first error of `define`.
    pub fn define<T: Clone>(
        &self,
        mut define: impl FnMut(&Item) -> crate::Result<T>,
    ) -> crate::Result<Vec<T>> {
        let mut seen = BTreeMap::new();
        let mut all: Vec<T> = Vec::with_capacity(self.imports.len());
        for (import, item) in self.module.imports().iter().zip(&self.imports) {
            let first = *seen.entry((&import.module, &import.name)).or_insert(all.len());
            let made = match all.get(first) {
                Some(made) => made.clone(),
                None => define(item)?,
            };
            all.push(made);
        }
        Ok(all)
    }

    /// Hands over the instance.
    #[must_use]
    pub fn finish(self, instance: impl Instance + Send + 'static) -> Started {
        Started { host: self.host, instance: Box::new(instance) }
    }
}

impl Started {
    /// The guest's two halves, for the runtime that keeps them together.
    pub(crate) fn into_parts(self) -> (Arc<Host>, Box<dyn Instance + Send>) {
        (self.host, self.instance)
    }
}

impl fmt::Debug for Started {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Started").field("host", &self.host).finish_non_exhaustive()
    }
}

//! What a backend makes of a module: an instance, and how it gets to the host.

use std::fmt;
use std::sync::Arc;

use crate::Result;
use crate::host::Host;
use crate::memory::segment::LinearMemories;
use crate::value::Value;

/// An instance of a module, as its engine has it: what a backend implements.
///
/// It grows and calls, and shows its [`LinearMemories`]. What a user sees is a
/// [`Runtime`](crate::Runtime), which has the instance for itself.
///
/// ```
/// use polychord_runtime_api::spi::Instance;
/// use polychord_runtime_api::{LinearMemories, Result, Value};
///
/// /// A guest with one memory, whose functions return zeros.
/// struct Zeros(Vec<u8>);
///
/// impl LinearMemories for Zeros {
///     fn linear_memory(&self, index: usize) -> &[u8] {
///         if index == 0 { &self.0 } else { &[] }
///     }
///
///     fn linear_memory_mut(&mut self, index: usize) -> &mut [u8] {
///         if index == 0 { &mut self.0 } else { &mut [] }
///     }
/// }
///
/// impl Instance for Zeros {
///     fn grow(&mut self, _memory: usize, pages: u64) -> Result<u64> {
///         let before = self.0.len();
///         self.0.resize(before + pages as usize * 65_536, 0);
///         Ok(before as u64 / 65_536)
///     }
///
///     fn invoke(&mut self, _export: &str, _args: &[Value], results: &mut [Value]) -> Result<()> {
///         results.iter_mut().for_each(|result| *result = result.ty().zero());
///         Ok(())
///     }
/// }
///
/// assert_eq!(Zeros(Vec::new()).grow(0, 2)?, 0);
/// # Ok::<(), polychord_runtime_api::Error>(())
/// ```
pub trait Instance: LinearMemories + Send {
    /// Grows the linear memory of this index by whole pages of 64 KiB and returns its size
    /// before, in pages. Called with a size that the limits allow.
    ///
    /// # Errors
    ///
    /// [`Error::OutOfMemory`](crate::Error::OutOfMemory) if the engine cannot grow it.
    fn grow(&mut self, memory: usize, pages: u64) -> Result<u64>;

    /// Calls an exported function and stores its results.
    /// Called with a name, and numbers and types of values, that the module has.
    ///
    /// # Errors
    ///
    /// [`Error::Trap`](crate::Error::Trap) if the guest traps or exceeds its time.
    fn invoke(&mut self, export: &str, args: &[Value], results: &mut [Value]) -> Result<()>;
}

/// The permission to start one guest: [`Module::instantiate`](crate::Module::instantiate) makes
/// it, and the backend uses it up.
///
/// ```
/// use polychord_runtime_api::spi::{Instance, Start, Started};
///
/// fn finish(start: Start, instance: impl Instance + 'static) -> Started {
///     println!("at most {} bytes in each memory", start.host().memory_limit());
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
    instance: Box<dyn Instance>,
}

impl Start {
    pub(crate) const fn new(host: Arc<Host>) -> Self {
        Self { host }
    }

    /// The host's side of the guest, for its imports and limits.
    #[must_use]
    pub const fn host(&self) -> &Arc<Host> {
        &self.host
    }

    /// Hands over the instance, of which the start function has run.
    #[must_use]
    pub fn finish(self, instance: impl Instance + 'static) -> Started {
        Started { host: self.host, instance: Box::new(instance) }
    }
}

impl Started {
    /// The guest's two halves, for the runtime that keeps them together.
    pub(crate) fn into_parts(self) -> (Arc<Host>, Box<dyn Instance>) {
        (self.host, self.instance)
    }
}

impl fmt::Debug for Started {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Started").field("host", &self.host).finish_non_exhaustive()
    }
}

//! What a backend makes of a module: an instance.

use crate::Result;
use crate::memory::segment::LinearMemories;
use crate::module::GlobalAt;
use crate::value::Value;

/// An instance of a module, as its engine has it: what a backend implements.
///
/// It grows and calls, and shows its [`LinearMemories`] and globals. What a user sees is a
/// [`Runtime`](crate::Runtime), which has the instance for itself.
///
/// A backend implements it twice: for a guest that no call runs in, which
/// [`Start::finish`](crate::spi::Start::finish) takes, and for a guest that is in the middle of a call,
/// which it gives to [`HostFunction::call`](crate::spi::HostFunction::call).
///
/// ```
/// use polychord_runtime_api::spi::{GlobalAt, Instance};
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
///
///     fn global(&mut self, _at: GlobalAt<'_>) -> Result<Value> {
///         Ok(Value::I32(0))
///     }
///
///     fn set_global(&mut self, _at: GlobalAt<'_>, _value: Value) -> Result<()> {
///         Ok(())
///     }
/// }
///
/// assert_eq!(Zeros(Vec::new()).grow(0, 2)?, 0);
/// # Ok::<(), polychord_runtime_api::Error>(())
/// ```
pub trait Instance: LinearMemories {
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

    /// The value of a global. Called with one that the module has, of a number or a vector.
    ///
    /// # Errors
    ///
    /// [`Error::Call`](crate::Error::Call) if the engine has it not.
    fn global(&mut self, at: GlobalAt<'_>) -> Result<Value>;

    /// Sets a global. Called with one that the module has and that can change, and a value of its
    /// type.
    ///
    /// # Errors
    ///
    /// [`Error::Call`](crate::Error::Call) if the engine has it not.
    fn set_global(&mut self, at: GlobalAt<'_>, value: Value) -> Result<()>;
}

impl<I: Instance + ?Sized> Instance for Box<I> {
    fn grow(&mut self, memory: usize, pages: u64) -> Result<u64> {
        (**self).grow(memory, pages)
    }

    fn invoke(&mut self, export: &str, args: &[Value], results: &mut [Value]) -> Result<()> {
        (**self).invoke(export, args, results)
    }

    fn global(&mut self, at: GlobalAt<'_>) -> Result<Value> {
        (**self).global(at)
    }

    fn set_global(&mut self, at: GlobalAt<'_>, value: Value) -> Result<()> {
        (**self).set_global(at, value)
    }
}

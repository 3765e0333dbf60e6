//! The call of the host that runs, as a value that others borrow from.

use core::marker::PhantomData;
use core::sync::atomic::{AtomicU32, Ordering::Relaxed};

use crate::Error;

/// The call of the host that runs: what is mapped borrows from it.
///
/// [`call`] makes it, and no other code can:
///
/// ```compile_fail
/// let call = polychord_guest::Call { is_inner: false };
/// ```
///
/// ```
/// let sum = polychord_guest::call(|call| match polychord_guest::layer::map(call, 0) {
///     Ok(mapped) => mapped.bytes().iter().map(|byte| u64::from(*byte)).sum(),
///     Err(_) => 0,
/// });
/// # assert_eq!(sum, 0);
/// ```
#[derive(Debug)]
pub struct Call {
    /// Whether another call of this guest waits for this one, with whatever it has mapped.
    is_inner: bool,
    /// Stays with the thread that makes the call.
    _thread: PhantomData<*mut ()>,
}

/// Calls of this guest that run.
static RUNNING: AtomicU32 = AtomicU32::new(0);

/// Counts a call as long as it lives.
struct Running;

/// Runs the body of an exported function, with the [`Call`] that it is in.
///
/// A function of the host may call the guest again. In such an inner call nothing can be released
/// or written, with [`Error::InUse`]: the outer one may have it mapped. A call that was stopped in
/// the middle, by a trap or a time limit, counts as an outer one from then on.
///
/// ```
/// use polychord_guest::{Error, layer, memory64};
///
/// /// Doubles the first byte of a layer that begins the 64-bit memory.
/// #[unsafe(no_mangle)]
/// pub extern "C" fn double_first(id: u32) -> i32 {
///     polychord_guest::call(|call| -> Result<usize, Error> {
///         let first = layer::map(call, id)?.bytes()[0];
///         memory64::write(call, 0, &[2 * first])
///     })
///     .map_or_else(Error::code, |_| 0)
/// }
/// # assert_eq!(double_first(0), Error::NotEnabled.code());
/// ```
pub fn call<R>(body: impl FnOnce(&mut Call) -> R) -> R {
    let is_inner = RUNNING.fetch_add(1, Relaxed) > 0;
    let _running = Running;
    body(&mut Call { is_inner, _thread: PhantomData })
}

impl Call {
    /// Checks that nothing can be mapped: `&mut self` says so of this call.
    pub(crate) const fn nothing_is_mapped(&mut self) -> Result<(), Error> {
        if self.is_inner { Err(Error::InUse) } else { Ok(()) }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        RUNNING.fetch_sub(1, Relaxed);
    }
}

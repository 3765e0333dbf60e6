//! Calls of guest functions, with and without a time limit.
//!
//! The SDK's own call with a timeout jumps out of the guest from a signal handler: whatever
//! lock the thread holds at that moment stays locked, what it has allocated is lost, and
//! WasmEdge's handler of faults keeps pointing to a dead stack frame. WasmEdge itself offers
//! better: a guest on a thread of its own, which looks at a flag where it branches and stops
//! in an orderly way. The SDK lacks this, so here is the C interface.
#![allow(unsafe_code)]

use std::ptr::{self, NonNull};
use std::time::{Duration, Instant};

use wasmedge_sys::ffi;

use crate::memory::ExportedFunction;

/// Runs functions of instances.
pub(crate) struct Executor(NonNull<ffi::WasmEdge_ExecutorContext>);

// SAFETY: an executor is bound to no thread; its methods need it exclusively or run one call.
unsafe impl Send for Executor {}

/// How often a guest that should stop is told so again.
const AGAIN: Duration = Duration::from_millis(5);

impl Executor {
    pub(crate) fn new() -> Option<Self> {
        // SAFETY: null stands for the default configuration and for no statistics.
        let context = unsafe { ffi::WasmEdge_ExecutorCreate(ptr::null(), ptr::null_mut()) };
        NonNull::new(context).map(Self)
    }

    /// Calls a function; fails with WasmEdge's error code.
    ///
    /// # Safety
    ///
    /// `args` and `results` have the number and types that the function has, and its
    /// instance lives until this returns.
    pub(crate) unsafe fn invoke(
        &mut self,
        function: ExportedFunction,
        args: &[ffi::WasmEdge_Value],
        results: &mut [ffi::WasmEdge_Value],
    ) -> Result<(), u32> {
        // SAFETY: the pointers are those of live objects, and the lengths those of the
        // slices; the rest is the caller's promise.
        check(unsafe {
            ffi::WasmEdge_ExecutorInvoke(
                self.0.as_ptr(),
                function.as_ptr(),
                args.as_ptr(),
                len(args),
                results.as_mut_ptr(),
                len(results),
            )
        })
    }

    /// Calls a function on another thread, and stops it when its time is over.
    ///
    /// Uses up the executor: the order to stop may come when the function has just returned,
    /// and would then stop the next one.
    ///
    /// # Safety
    ///
    /// As for [`invoke`](Self::invoke).
    pub(crate) unsafe fn invoke_until(
        self,
        function: ExportedFunction,
        args: &[ffi::WasmEdge_Value],
        results: &mut [ffi::WasmEdge_Value],
        deadline: Instant,
    ) -> Result<(), u32> {
        // SAFETY: as in `invoke`. WasmEdge copies the arguments before it returns.
        let call = unsafe {
            ffi::WasmEdge_ExecutorAsyncInvoke(
                self.0.as_ptr(),
                function.as_ptr(),
                args.as_ptr(),
                len(args),
            )
        };
        let Some(call) = NonNull::new(call).map(Call) else {
            return Err(ffi::WasmEdge_ErrCode_RuntimeError);
        };
        let mut wait = deadline.saturating_duration_since(Instant::now());
        while !call.wait(wait) {
            if Instant::now() >= deadline {
                call.cancel();
                wait = AGAIN;
            } else {
                wait = deadline.saturating_duration_since(Instant::now());
            }
        }
        call.finish(results)
    }
}

impl Drop for Executor {
    fn drop(&mut self) {
        // SAFETY: made by `new`, owned here alone, and no call is running: `invoke` has
        // returned, and `invoke_until` has waited for its thread.
        unsafe { ffi::WasmEdge_ExecutorDelete(self.0.as_ptr()) }
    }
}

/// A call on another thread.
struct Call(NonNull<ffi::WasmEdge_Async>);

impl Call {
    /// Whether it has ended, after at most so long.
    fn wait(&self, time: Duration) -> bool {
        // Rounded up, and cut so that WasmEdge's clock does not overflow.
        let millis = time.as_nanos().div_ceil(1_000_000).min(u128::from(u32::MAX));
        let millis = u64::try_from(millis).unwrap_or(u64::from(u32::MAX));
        // SAFETY: the call is alive until it is dropped.
        unsafe { ffi::WasmEdge_AsyncWaitFor(self.0.as_ptr(), millis) }
    }

    /// Sets the flag that compiled code and the interpreter look at.
    fn cancel(&self) {
        // SAFETY: as in `wait`; the executor outlives the call.
        unsafe { ffi::WasmEdge_AsyncCancel(self.0.as_ptr()) }
    }

    /// Takes the results of a call that has ended.
    fn finish(self, results: &mut [ffi::WasmEdge_Value]) -> Result<(), u32> {
        // SAFETY: as in `wait`; pointer and length are those of the slice.
        check(unsafe {
            ffi::WasmEdge_AsyncGet(self.0.as_ptr(), results.as_mut_ptr(), len(results))
        })
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        // SAFETY: made by WasmEdge and owned here alone; waits for the thread.
        unsafe { ffi::WasmEdge_AsyncDelete(self.0.as_ptr()) }
    }
}

/// The code of an error, if it is one.
fn check(result: ffi::WasmEdge_Result) -> Result<(), u32> {
    // SAFETY: reads a number in a plain value.
    if unsafe { ffi::WasmEdge_ResultOK(result) } {
        return Ok(());
    }
    // SAFETY: as above.
    Err(unsafe { ffi::WasmEdge_ResultGetCode(result) })
}

/// The number of values. A function has at most a thousand.
fn len(values: &[ffi::WasmEdge_Value]) -> u32 {
    u32::try_from(values.len()).unwrap_or(0)
}

//! Calls of guest functions.
//!
//! The SDK's own call with a timeout jumps out of the guest from a signal handler: whatever
//! lock the thread holds at that moment stays locked, what it has allocated is lost, and
//! WasmEdge's handler of faults keeps pointing to a dead stack frame. Its other call makes
//! vectors for each call. Guests with a time limit look at a flag of ours instead, and calls use
//! the C interface.
#![allow(unsafe_code)]

use std::ptr::{self, NonNull};

use wasmedge_sys::ffi;

use crate::error;
use crate::memory::ExportedFunction;

/// WasmEdge's executor, which calls functions of instances.
pub(crate) struct Executor(NonNull<ffi::WasmEdge_ExecutorContext>);

// SAFETY: an executor is bound to no thread.
unsafe impl Send for Executor {}
// SAFETY: it is used by the owner of its guest only, one thread at a time; and what a call changes in
// it WasmEdge keeps for the thread, and puts back for the outer call.
unsafe impl Sync for Executor {}

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
    /// instance lives until this returns. No other thread runs a guest of this executor meanwhile.
    pub(crate) unsafe fn invoke(
        &self,
        function: ExportedFunction,
        args: &[ffi::WasmEdge_Value],
        results: &mut [ffi::WasmEdge_Value],
    ) -> Result<(), u32> {
        // SAFETY: the pointers are those of live objects, and the lengths those of the
        // slices; the rest is the caller's promise.
        error::check(unsafe {
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
}

impl Drop for Executor {
    fn drop(&mut self) {
        // SAFETY: made by `new`, owned here alone, and no call is running: `invoke` has returned.
        unsafe { ffi::WasmEdge_ExecutorDelete(self.0.as_ptr()) }
    }
}

/// The number of values. A function has at most a thousand.
fn len(values: &[ffi::WasmEdge_Value]) -> u32 {
    u32::try_from(values.len()).unwrap_or(0)
}

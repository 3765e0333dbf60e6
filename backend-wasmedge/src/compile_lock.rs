//! One compilation at a time in this process, and a bound on waiting for it.

use std::sync::{Condvar, Mutex, PoisonError};
use std::time::Duration;

use polychord_runtime_api::Result;

use crate::error;

/// The right to compile in this process, until it is dropped.
pub(crate) struct CompileLock(&'static Queue);

#[derive(Default)]
struct Queue {
    is_taken: Mutex<bool>,
    free: Condvar,
}

/// Longest wait for another compilation. One of a module within the default
/// [`ModuleLimits`](polychord_runtime_api::ModuleLimits) takes seconds.
const WAIT: Duration = Duration::from_secs(120);

/// Waits until no other thread compiles: the linker that ends a compilation keeps state in globals.
pub(crate) fn acquire() -> Result<CompileLock> {
    static QUEUE: Queue = Queue { is_taken: Mutex::new(false), free: Condvar::new() };
    QUEUE.wait(WAIT)
}

impl Queue {
    fn wait(&'static self, most: Duration) -> Result<CompileLock> {
        let is_taken = self.is_taken.lock().unwrap_or_else(PoisonError::into_inner);
        let waited = self.free.wait_timeout_while(is_taken, most, |is_taken| *is_taken);
        let (mut is_taken, timeout) = waited.unwrap_or_else(PoisonError::into_inner);
        if timeout.timed_out() {
            return Err(error::compile(&format!(
                "this process has been compiling another guest for {most:?}, and WasmEdge compiles \
                 one at a time; set Config::compiler, so that each is compiled in a process of its \
                 own with a time limit"
            )));
        }
        *is_taken = true;
        Ok(CompileLock(self))
    }
}

impl Drop for CompileLock {
    fn drop(&mut self) {
        *self.0.is_taken.lock().unwrap_or_else(PoisonError::into_inner) = false;
        self.0.free.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waiting_too_long_is_an_error_that_says_what_to_do() {
        static QUEUE: Queue = Queue { is_taken: Mutex::new(false), free: Condvar::new() };
        let lock = QUEUE.wait(Duration::ZERO).unwrap_or_else(|error| panic!("{error}"));
        let Err(error) = QUEUE.wait(Duration::from_millis(10)) else { panic!("two at a time") };
        assert!(error.to_string().contains("Config::compiler"), "{error}");
        drop(lock);
        assert!(QUEUE.wait(Duration::ZERO).is_ok());
    }
}

//! What rendering wants from an operating system, a clock and a stack, and what is done without.

use super::limits::Result;
#[cfg(not(all(target_family = "wasm", target_os = "unknown")))]
use super::limits::{STACK, Stop};

/// Whether the time and the time zone can be asked for.
///
/// WebAssembly without an operating system (`wasm32-unknown-unknown`) has no clock of its own.
pub(super) const HAS_CLOCK: bool = !cfg!(all(target_family = "wasm", target_os = "unknown"));

/// Does `work` on a thread whose stack is large enough for the depths that are allowed, since
/// nothing is known about the caller's.
#[cfg(not(all(target_family = "wasm", target_os = "unknown")))]
pub(super) fn on_known_stack<T: Send>(work: impl FnOnce() -> Result<T> + Send) -> Result<T> {
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new()
            .name("chat template".to_owned())
            .stack_size(STACK)
            .spawn_scoped(scope, work)
            .map_err(|error| Stop::failed(format!("no thread could be started: {error}")))?;
        thread.join().unwrap_or_else(|_| Err(Stop::failed("the interpreter panicked")))
    })
}

/// Does `work` on the caller's stack, as there are no threads: it needs about 2 MiB.
#[cfg(all(target_family = "wasm", target_os = "unknown"))]
pub(super) fn on_known_stack<T>(work: impl FnOnce() -> Result<T>) -> Result<T> {
    work()
}

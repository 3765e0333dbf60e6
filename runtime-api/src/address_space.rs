//! Says so when a guest cannot start for lack of address space.

use crate::Error;
use crate::module::ModuleInfo;

/// What an engine reserves for a 32-bit memory, at least: all that its addresses can reach, so
/// that the memory never moves and compiled code needs no checks of bounds.
const RESERVED: u64 = 4 << 30;

/// Adds to the error of a start what the process may use, if that could be the cause.
pub(crate) fn explain(error: Error, module: &ModuleInfo) -> Error {
    let memories = module.shape().memories.len() as u64;
    let Some(limit) = limit().filter(|_| memories > 0) else { return error };
    let (engine, asked, reason) = match error {
        Error::Instantiate { engine, reason } if is_lack_of_memory(&reason) => (engine, 0, reason),
        // Of an engine that has noticed it by itself, and may know how much it reserves.
        Error::OutOfMemory { engine, asked, reason, .. } => (engine, asked, reason),
        error => return error,
    };
    Error::OutOfMemory {
        engine,
        what: "address space for the guest's memories",
        asked: asked.max(RESERVED.saturating_mul(memories)),
        reason: advise(&reason, limit),
    }
}

fn advise(reason: &str, limit: u64) -> String {
    format!(
        "{reason}. The process may use {limit} bytes of address space (ulimit -v), and a memory \
         reserves at least {RESERVED} bytes of it, however small it is: run with ulimit -v unlimited \
         and limit resident memory otherwise (a cgroup), or with Wasmtime, which reserves less where \
         there is little"
    )
}

/// Whether an engine's text is about memory. No engine has a code for it.
fn is_lack_of_memory(reason: &str) -> bool {
    let reason = reason.to_lowercase();
    ["memory", "mmap", "os error 12", "allocat"].iter().any(|word| reason.contains(word))
}

/// The most address space that this process may use, if there is a limit.
#[cfg(unix)]
fn limit() -> Option<u64> {
    rustix::process::getrlimit(rustix::process::Resource::As).current
}

#[cfg(not(unix))]
const fn limit() -> Option<u64> {
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn other_errors_stay_as_they_are() {
        assert!(is_lack_of_memory("mmap failed: Cannot allocate memory (os error 12)"));
        assert!(!is_lack_of_memory("incompatible import type"));
    }
}

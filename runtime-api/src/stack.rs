//! Room on the stack for what engines do on the stack of their callers.
//!
//! Wasmtime runs guests on the stack of the thread that calls them, lets them use 1 MiB of it, and
//! believes that it is there. In a thread with less, runaway recursion would run into the guard
//! page and end the process, before the engine could make a trap of it. Compilers recurse, too, and
//! so do start functions. So all of these run here, whichever the engine.

/// Stack of a guest in bytes. A backend whose guests run on the stack of their callers limits them
/// to it.
pub const GUEST_STACK: usize = 1 << 20;

/// What an engine and host functions may use beside the guest, or a compiler alone.
const BESIDE: usize = 512 << 10;

/// Bytes of a stack that is made where the caller's has too little left: with some more than is
/// asked for, so that calls within a call find enough.
const NEW: usize = 2 * (GUEST_STACK + BESIDE);

/// Runs something with room for a guest: on the caller's stack, or on another one that is made for
/// it where the caller's has less left.
///
/// Looking takes some nanoseconds, a stack some ten microseconds; it is address space until it is
/// used, and is given back at the end.
pub(crate) fn with_room<T>(run: impl FnOnce() -> T) -> T {
    stacker::maybe_grow(GUEST_STACK + BESIDE, NEW, run)
}

/// Whether there is room for a call within a call. Guests of an engine may have stacks of their own,
/// and it is the host's that such calls use up.
pub(crate) fn has_room_for_more() -> bool {
    stacker::remaining_stack().is_none_or(|left| left >= BESIDE / 2)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_is_room_in_every_thread() {
        for stack in [16 << 10, 64 << 10, 128 << 10, 512 << 10, 1 << 20, 2 << 20, 16 << 20] {
            let run = move || {
                let left = with_room(|| stacker::remaining_stack().unwrap_or(0));
                assert!(left >= GUEST_STACK + BESIDE - 4096, "{left} of {stack}");
                // Within a call, it is the same stack.
                let inner = with_room(|| with_room(|| stacker::remaining_stack().unwrap_or(0)));
                assert!(left.abs_diff(inner) < 4096, "{inner} {left}");
            };
            std::thread::Builder::new().stack_size(stack).spawn(run).unwrap().join().unwrap();
        }
    }

    #[test]
    fn panics_and_results_pass_through() {
        let run = || {
            let caught = std::panic::catch_unwind(|| with_room(|| panic!("on another stack")));
            assert!(caught.is_err());
            assert_eq!(with_room(|| 5), 5);
        };
        std::thread::Builder::new().stack_size(64 << 10).spawn(run).unwrap().join().unwrap();
    }
}

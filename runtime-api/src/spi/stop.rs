//! Stopping guests whose time is over, by a word in their memory.
#![allow(unsafe_code)]

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use polychord_passes::stop::FLAG;
pub use polychord_passes::stop::Reads;

use crate::spi::watchdog::Watchdog;
use crate::{Error, Result, TrapKind};

/// How long each call of one guest may take.
///
/// Code of a guest that has a limit looks at a word in its memory where functions and loops begin
/// (see [`polychord_passes::stop`]). The watchdog sets the word from its own thread.
///
/// ```
/// use polychord_runtime_api::Result;
/// use polychord_runtime_api::spi::TimeLimit;
///
/// fn call(time: &TimeLimit, invoke: impl FnOnce() -> Result<()>) -> Result<()> {
///     time.run(invoke)
/// }
/// ```
#[derive(Debug)]
pub struct TimeLimit(Option<(Duration, Word)>);

/// The address of the word that stops a guest when it is not zero.
#[derive(Clone, Copy, Debug)]
struct Word(NonNull<AtomicU32>);

// SAFETY: by the contract of `TimeLimit::new` the word is there for as long as anything has its
// address, and it is only used by atomic operations.
unsafe impl Send for Word {}
// SAFETY: as above.
unsafe impl Sync for Word {}

impl TimeLimit {
    /// Calls are stopped after `limit` by a word in the memory that the pass has added to the
    /// guest.
    ///
    /// # Safety
    ///
    /// `memory` is the first byte of that memory: at least a page that is readable, writable and
    /// aligned to its size, stays where it is for as long as the result lives, and is used by
    /// nothing but compiled code of the guest.
    const unsafe fn new(limit: Duration, memory: NonNull<u8>) -> Self {
        // SAFETY: the word lies within the page, by the caller's promise.
        Self(Some((limit, Word(unsafe { memory.byte_add(FLAG) }.cast()))))
    }

    /// Runs guest code, and stops it when its time is over. The trap that stops it becomes
    /// [`TrapKind::DeadlineExceeded`].
    ///
    /// # Errors
    ///
    /// Returns the errors of `run`, and [`Error::NoWatchdog`](crate::Error::NoWatchdog) if nothing could stop
    /// the guest; it was not run then.
    pub fn run<T>(&self, run: impl FnOnce() -> Result<T>) -> Result<T> {
        let Some((limit, word)) = self.0 else { return run() };
        // A limit beyond what the clock can express never comes.
        let Some(deadline) = Instant::now().checked_add(limit) else { return run() };
        word.set(0);
        let alarm = Watchdog::set(deadline, move || word.set(1))?;
        let result = run();
        // Nothing writes to the word from here on.
        drop(alarm);
        match result {
            Err(Error::Trap { engine, operation, kind: TrapKind::Unreachable })
                if Instant::now() >= deadline =>
            {
                Err(Error::Trap { engine, operation, kind: TrapKind::DeadlineExceeded(limit) })
            }
            result => result,
        }
    }
}

impl Word {
    fn set(self, value: u32) {
        // SAFETY: the word is there, by the contract of `TimeLimit::new`: it is set through the
        // `TimeLimit` and by an alarm that is dropped before `TimeLimit::run` ends.
        unsafe { self.0.as_ref() }.store(value, Ordering::Relaxed);
    }
}

/// A module as an engine compiled it, in two variants: the code of guests with a time limit
/// looks at a flag, which costs some speed, so it is compiled when the first such guest starts.
///
/// ```
/// use std::time::Duration;
///
/// use polychord_runtime_api::Result;
/// use polychord_runtime_api::spi::{Reads, Variants};
///
/// /// Stands for what an engine compiled.
/// type Code = Vec<u8>;
///
/// fn code(variants: &Variants<Code>, limit: Option<Duration>, reads: Reads) -> Result<usize> {
///     let variant = variants.choose(limit, "mine", reads, |wasm| Ok(wasm.to_vec()))?;
///     Ok(variant.module().len())
/// }
/// ```
#[derive(Debug)]
pub struct Variants<M> {
    wasm: Box<[u8]>,
    plain: M,
    stoppable: OnceLock<Stoppable<M>>,
    /// Held while the variant with a flag is compiled. Guests may start in many threads at once,
    /// and what one compilation may cost is bounded, not what many of them cost together.
    compiling: Mutex<()>,
}

/// The variant for guests with a time limit.
#[derive(Debug)]
struct Stoppable<M> {
    module: M,
    /// The name that the memory with the flag is exported by.
    memory: String,
    /// The name of the function to be called when the guest starts. Engines would run a start
    /// function before anyone could find the flag, so it is none of the module's any more.
    start: Option<String>,
}

/// The variant of a module that one guest runs.
///
/// ```
/// use polychord_runtime_api::Result;
/// use polychord_runtime_api::spi::{Reads, Variants};
///
/// /// The code of a guest without a time limit, which looks at no flag.
/// fn plain(variants: &Variants<Vec<u8>>, reads: Reads) -> Result<&[u8]> {
///     let variant = variants.choose(None, "mine", reads, |wasm| Ok(wasm.to_vec()))?;
///     Ok(variant.module())
/// }
/// ```
#[derive(Debug)]
pub struct Variant<'a, M> {
    module: &'a M,
    /// The names of the flag's memory and of the start function, if the guest has a time limit.
    limited: Option<(Duration, &'a str, Option<&'a str>)>,
}

impl<M> Variants<M> {
    /// Keeps a module and what it was compiled from.
    pub fn new(wasm: &[u8], plain: M) -> Self {
        let (stoppable, compiling) = (OnceLock::new(), Mutex::new(()));
        Self { wasm: wasm.into(), plain, stoppable, compiling }
    }

    /// The variant for a guest whose calls may take `limit`. The one with a flag is compiled when it
    /// is first asked for, by one thread at a time. `reads` says what makes the engine's code read
    /// the flag again.
    ///
    /// # Errors
    ///
    /// Returns the errors of `compile`, and [`Error::Compile`](crate::Error::Compile) if the module
    /// cannot be rewritten, or if `compile` panics.
    pub fn choose(
        &self,
        limit: Option<Duration>,
        engine: &'static str,
        reads: Reads,
        compile: impl FnOnce(&[u8]) -> Result<M>,
    ) -> Result<Variant<'_, M>> {
        let Some(limit) = limit else {
            return Ok(Variant { module: &self.plain, limited: None });
        };
        let Stoppable { module, memory, start } = self.stoppable(engine, reads, compile)?;
        Ok(Variant { module, limited: Some((limit, memory, start.as_deref())) })
    }

    fn stoppable(
        &self,
        engine: &'static str,
        reads: Reads,
        compile: impl FnOnce(&[u8]) -> Result<M>,
    ) -> Result<&Stoppable<M>> {
        if let Some(module) = self.stoppable.get() {
            return Ok(module);
        }
        let _compiling = self.compiling.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(module) = self.stoppable.get() {
            return Ok(module);
        }
        let failed = |error: polychord_passes::Error| Error::Compile {
            engine,
            reason: format!("it cannot be made stoppable: {error}"),
        };
        let without_start = polychord_passes::start::export(&self.wasm).map_err(failed)?;
        let checked = polychord_passes::stop::checks(&without_start.wasm, reads).map_err(failed)?;
        let module = catch_unwind(AssertUnwindSafe(|| compile(&checked.wasm)));
        let module = module.unwrap_or_else(|_| {
            let reason = "its compiler panicked on the code of a guest with a time limit, which is \
                          a defect of the engine: report it to its authors, and try another engine";
            Err(Error::Compile { engine, reason: reason.into() })
        })?;
        let (memory, start) = (checked.memory, without_start.start);
        Ok(self.stoppable.get_or_init(|| Stoppable { module, memory, start }))
    }
}

impl<'a, M> Variant<'a, M> {
    /// The module, as the engine compiled it.
    #[must_use]
    pub const fn module(&self) -> &'a M {
        self.module
    }

    /// Whether its code looks at a flag, which has a memory of one page.
    #[must_use]
    pub const fn has_flag(&self) -> bool {
        self.limited.is_some()
    }

    /// The name of the function that the backend calls as the start function, under the time limit;
    /// none if the engine itself runs what the module declares.
    #[must_use]
    pub const fn start(&self) -> Option<&'a str> {
        match self.limited {
            Some((_, _, start)) => start,
            None => None,
        }
    }

    /// The time limit of an instance of this variant. `memory` finds the first byte of the memory
    /// that the instance exports by a name; it is not called for a guest without a limit.
    ///
    /// # Errors
    ///
    /// [`Error::Instantiate`](crate::Error::Instantiate) if `memory` finds none.
    ///
    /// # Safety
    ///
    /// What `memory` returns is the first byte of that memory: at least a page that is readable,
    /// writable and aligned to its size, stays where it is for as long as the result lives, and is
    /// used by nothing but compiled code of the guest.
    pub unsafe fn time_limit(
        &self,
        engine: &'static str,
        memory: impl FnOnce(&str) -> Option<NonNull<u8>>,
    ) -> Result<TimeLimit> {
        let Some((limit, name, _)) = self.limited else { return Ok(TimeLimit(None)) };
        let reason = "it has not the memory of one page that its time limit needs";
        let memory =
            memory(name).ok_or_else(|| Error::Instantiate { engine, reason: reason.to_owned() })?;
        // SAFETY: the caller's promise about `memory`.
        Ok(unsafe { TimeLimit::new(limit, memory) })
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;
    use std::thread;

    use super::*;

    const EMPTY: &[u8] = b"\0asm\x01\0\0\0";

    #[test]
    fn the_variant_is_compiled_once_however_many_ask_for_it() {
        let variants = Variants::new(EMPTY, 0);
        let compiled = AtomicUsize::new(0);
        thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    let compile = |_: &[u8]| {
                        thread::sleep(Duration::from_millis(20));
                        Ok(compiled.fetch_add(1, Ordering::Relaxed))
                    };
                    variants.stoppable("test", Reads::Always, compile).unwrap();
                });
            }
        });
        assert_eq!(compiled.into_inner(), 1);
    }

    #[test]
    fn a_compiler_that_panics_is_an_error_and_can_be_tried_again() {
        let variants = Variants::new(EMPTY, 0);
        let error = variants.stoppable("test", Reads::Always, |_| panic!("a defect")).unwrap_err();
        assert!(matches!(error, Error::Compile { engine: "test", .. }), "{error}");
        assert_eq!(variants.stoppable("test", Reads::Always, |_| Ok(7)).unwrap().module, 7);
    }
}

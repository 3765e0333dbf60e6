//! Stopping guests by a word in their memory: the variant of a module that looks at it.
#![allow(unsafe_code)]

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::ptr::NonNull;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Instant;

use polychord_passes::stop::FLAG;
pub use polychord_passes::stop::Reads;

use crate::host::Host;
use crate::interrupt::{Cause, Switch};
use crate::limits::Limits;
use crate::module::ModuleInfo;
use crate::spi::watchdog::Watchdog;
use crate::{Error, Result};

/// How long each call of one guest may take, and what else may stop it.
///
/// Code of a guest that has a limit, or that can be interrupted, looks at a word in its memory where
/// functions and loops begin (see [`polychord_passes::stop`]). The watchdog, or an
/// [`Interrupter`](crate::Interrupter), sets the word from its own thread.
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
pub struct TimeLimit(Option<Arc<Switch>>);

impl TimeLimit {
    /// Runs guest code, and stops it when its time is over, or when it is interrupted: it traps by
    /// [`TrapKind::Unreachable`](crate::TrapKind::Unreachable), which becomes the kind of trap that
    /// it is when the call has ended.
    ///
    /// # Errors
    ///
    /// Returns the errors of `run`, and [`Error::NoWatchdog`](crate::Error::NoWatchdog) if nothing could stop
    /// the guest; it was not run then.
    pub fn run<T>(&self, run: impl FnOnce() -> Result<T>) -> Result<T> {
        let Some(switch) = &self.0 else { return run() };
        let _running = switch.begin();
        // A limit beyond what the clock can express never comes.
        let deadline = switch.limit().and_then(|limit| Instant::now().checked_add(limit));
        let alarm = match deadline {
            Some(deadline) => {
                let switch = switch.clone();
                Some(Watchdog::set(deadline, move || _ = switch.stop(Cause::Deadline))?)
            }
            None => None,
        };
        let result = run();
        // Nothing stops the next call because of this one.
        drop(alarm);
        result
    }
}

impl Drop for TimeLimit {
    fn drop(&mut self) {
        if let Some(switch) = &self.0 {
            switch.close();
        }
    }
}

/// A module as an engine compiled it, in two variants: the code of guests that can be
/// stopped looks at a flag, which costs some speed. One is compiled at once, and the other when the
/// first guest starts that needs it.
///
/// ```
/// use polychord_runtime_api::spi::{Reads, Variants};
/// use polychord_runtime_api::{Limits, ModuleInfo, Result};
///
/// /// Stands for what an engine compiled.
/// type Code = Vec<u8>;
///
/// fn compile(wasm: &[u8]) -> Result<Code> {
///     Ok(wasm.to_vec())
/// }
///
/// fn code(wasm: &[u8], info: &ModuleInfo, limits: &Limits) -> Result<usize> {
///     let variants = Variants::new(wasm, info, "mine", Reads::Always, compile)?;
///     Ok(variants.choose(limits, compile)?.module().len())
/// }
/// ```
#[derive(Debug)]
pub struct Variants<M> {
    wasm: Box<[u8]>,
    engine: &'static str,
    reads: Reads,
    plain: OnceLock<M>,
    stoppable: OnceLock<Stoppable<M>>,
    /// Held while a variant is compiled. Guests may start in many threads at once,
    /// and what one compilation may cost is bounded, not what many of them cost together.
    compiling: Mutex<()>,
}

/// The variant for guests that can be stopped.
#[derive(Debug)]
struct Stoppable<M> {
    module: M,
    /// The name that the memory with the flag is exported by.
    memory: String,
}

/// The variant of a module that one guest runs.
///
/// ```
/// use polychord_runtime_api::spi::Variants;
/// use polychord_runtime_api::{Limits, Result};
///
/// /// The code of a guest that nothing stops, which looks at no flag.
/// fn plain(variants: &Variants<Vec<u8>>) -> Result<&[u8]> {
///     let variant = variants.choose(&Limits::default(), |wasm| Ok(wasm.to_vec()))?;
///     Ok(variant.module())
/// }
/// ```
#[derive(Debug)]
pub struct Variant<'a, M> {
    module: &'a M,
    /// The name of the flag's memory, if the guest can be stopped.
    flag: Option<&'a str>,
}

impl<M> Variants<M> {
    /// Compiles a module: the variant that `info` says its guests need. `reads` says what makes the
    /// engine's code read the flag again.
    ///
    /// # Errors
    ///
    /// Returns the errors of `compile`, and [`Error::Compile`](crate::Error::Compile) if the module
    /// cannot be rewritten.
    pub fn new(
        wasm: &[u8],
        info: &ModuleInfo,
        engine: &'static str,
        reads: Reads,
        compile: impl FnOnce(&[u8]) -> Result<M>,
    ) -> Result<Self> {
        let variants = Self {
            wasm: wasm.into(),
            engine,
            reads,
            plain: OnceLock::new(),
            stoppable: OnceLock::new(),
            compiling: Mutex::new(()),
        };
        if info.only_stoppable() {
            variants.stoppable(compile)?;
        } else {
            variants.plain(compile)?;
        }
        Ok(variants)
    }

    /// The variant for a guest with these limits. It is compiled when it is first asked for, by one
    /// thread at a time.
    ///
    /// # Errors
    ///
    /// Returns the errors of `compile`, and [`Error::Compile`](crate::Error::Compile) if the module
    /// cannot be rewritten, or if `compile` panics.
    pub fn choose(
        &self,
        limits: &Limits,
        compile: impl FnOnce(&[u8]) -> Result<M>,
    ) -> Result<Variant<'_, M>> {
        if !limits.can_be_stopped() {
            return Ok(Variant { module: self.plain(compile)?, flag: None });
        }
        let Stoppable { module, memory } = self.stoppable(compile)?;
        Ok(Variant { module, flag: Some(memory) })
    }

    fn plain(&self, compile: impl FnOnce(&[u8]) -> Result<M>) -> Result<&M> {
        self.once(&self.plain, || compile(&self.wasm))
    }

    fn stoppable(&self, compile: impl FnOnce(&[u8]) -> Result<M>) -> Result<&Stoppable<M>> {
        self.once(&self.stoppable, || {
            let checked = polychord_passes::stop::checks(&self.wasm, self.reads);
            let checked = checked.map_err(|error| Error::Compile {
                engine: self.engine,
                reason: format!("it cannot be made stoppable: {error}"),
            })?;
            Ok(Stoppable { module: compile(&checked.wasm)?, memory: checked.memory })
        })
    }

    /// What is in a place, made by the first who asks.
    fn once<'a, T>(
        &'a self,
        place: &'a OnceLock<T>,
        make: impl FnOnce() -> Result<T>,
    ) -> Result<&'a T> {
        if let Some(there) = place.get() {
            return Ok(there);
        }
        let _compiling = self.compiling.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(there) = place.get() {
            return Ok(there);
        }
        let made = catch_unwind(AssertUnwindSafe(make)).unwrap_or_else(|_| {
            let reason = "its compiler panicked, which is a defect of the engine: report it to its \
                          authors, and try another engine";
            Err(Error::Compile { engine: self.engine, reason: reason.into() })
        })?;
        Ok(place.get_or_init(|| made))
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
        self.flag.is_some()
    }

    /// What stops an instance of this variant. `memory` finds the first byte of the memory that the
    /// instance exports by a name; it is not called for a guest that nothing stops.
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
        host: &Host,
        memory: impl FnOnce(&str) -> Option<NonNull<u8>>,
    ) -> Result<TimeLimit> {
        let Some(name) = self.flag else { return Ok(TimeLimit(None)) };
        let engine = host.capabilities().engine;
        let reason = "it has not the memory of one page that its time limit needs";
        let memory =
            memory(name).ok_or_else(|| Error::Instantiate { engine, reason: reason.to_owned() })?;
        // SAFETY: the word lies within the page, by the caller's promise.
        let word = unsafe { memory.byte_add(FLAG) }.cast();
        // SAFETY: by the caller's promise, up to the end of the result, which closes the switch.
        let switch = Arc::new(unsafe { Switch::new(host.limits().call_time, word) });
        host.set_switch(switch.clone());
        Ok(TimeLimit(Some(switch)))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::thread;
    use std::time::Duration;

    use super::*;
    use crate::ModuleLimits;
    use crate::idle::capabilities;

    const EMPTY: &[u8] = b"\0asm\x01\0\0\0";

    fn variants(limits: &ModuleLimits, compile: impl FnOnce() -> usize) -> Variants<usize> {
        let info = ModuleInfo::parse_within(EMPTY, &capabilities(), limits).unwrap();
        Variants::new(EMPTY, &info, "test", Reads::Always, |_| Ok(compile())).unwrap()
    }

    #[test]
    fn a_variant_is_compiled_once_however_many_ask_for_it() {
        let variants = variants(&ModuleLimits::default(), || 0);
        let compiled = AtomicUsize::new(0);
        thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    let compile = |_: &[u8]| {
                        thread::sleep(Duration::from_millis(20));
                        Ok(compiled.fetch_add(1, Ordering::Relaxed))
                    };
                    variants.stoppable(compile).unwrap();
                });
            }
        });
        assert_eq!(compiled.into_inner(), 1);
    }

    /// A compiler is run for the guests that start, and for no others.
    #[test]
    fn what_no_guest_needs_is_not_compiled() {
        let (plain, stopped) = (Limits::default(), Limits::default().interruptible(true));
        let none = |_: &[u8]| panic!("it is there");
        for (limits, first, second) in [
            (ModuleLimits::default(), &plain, &stopped),
            (ModuleLimits::default().only_stoppable(), &stopped, &plain),
        ] {
            let variants = variants(&limits, || 1);
            assert_eq!(*variants.choose(first, none).unwrap().module(), 1);
            assert_eq!(*variants.choose(second, |_| Ok(2)).unwrap().module(), 2);
            for limits in [&plain, &stopped] {
                let variant = variants.choose(limits, none).unwrap();
                assert_eq!(variant.has_flag(), limits.can_be_stopped());
            }
        }
    }

    #[test]
    fn a_compiler_that_panics_is_an_error_and_can_be_tried_again() {
        let variants = variants(&ModuleLimits::default(), || 0);
        let error = variants.stoppable(|_| panic!("a defect")).unwrap_err();
        assert!(matches!(error, Error::Compile { engine: "test", .. }), "{error}");
        assert_eq!(variants.stoppable(|_| Ok(7)).unwrap().module, 7);
    }
}

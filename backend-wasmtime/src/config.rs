//! How Wasmtime is configured, for each type of addresses.

use std::sync::OnceLock;

use polychord_code_cache::CodeCache;
use polychord_runtime_api::spi::{CompilerCommand, GUEST_STACK};
use polychord_runtime_api::{AddressType, Result};
use wasmtime::{Config, OptLevel};

use crate::error;

/// One engine of Wasmtime for each type of addresses, made when it is first needed.
#[derive(Default)]
pub(crate) struct Engines {
    engines: [OnceLock<wasmtime::Engine>; 2],
    /// The program that compiles; none if this process does.
    pub(crate) compiler: Option<CompilerCommand>,
    /// Where compiled code is kept, if it is.
    pub(crate) cache: Option<CodeCache>,
    /// Address space for each memory, where there is little of it.
    reservation: Option<u64>,
    /// Whether code is for any processor of this architecture.
    portable: bool,
}

/// Address space reserved for a 64-bit memory, which thus never moves: its pages may be mappings.
/// 256 GiB let some hundred guests live in a process with 47-bit addresses.
pub(crate) const WIDE: u64 = 256 << 30;

/// With less address space than this, memories do not get all that their addresses can reach: a
/// 32-bit one would take 4 GiB.
const LITTLE: u64 = 12 << 30;

impl Engines {
    /// Engines for modules that this process compiles, whose memories do not need more address
    /// space than it may use.
    ///
    /// Where that is little, each memory gets a quarter of it. It cannot grow beyond, and code
    /// checks bounds, which the reservation makes needless otherwise. Another process that compiles
    /// cannot know of this.
    pub(crate) fn for_this_process() -> Self {
        let reservation = limit().filter(|limit| *limit < LITTLE).map(|limit| limit / 4);
        Self { reservation, ..Self::default() }
    }

    /// These settings, for code that runs on any processor of this architecture.
    pub(crate) fn for_any_processor(self) -> Self {
        Self { portable: true, ..self }
    }

    /// Engines whose modules another program compiles.
    pub(crate) fn isolated(compiler: CompilerCommand) -> Self {
        Self { compiler: Some(compiler), ..Self::default() }
    }

    /// These settings, for engines that keep compiled code.
    pub(crate) fn with_cache(&self, cache: CodeCache) -> Self {
        let Self { compiler, reservation, portable, .. } = self;
        let (compiler, reservation, portable) = (compiler.clone(), *reservation, *portable);
        Self { compiler, reservation, portable, cache: Some(cache), ..Self::default() }
    }

    pub(crate) fn get(&self, address: AddressType) -> Result<&wasmtime::Engine> {
        let slot = &self.engines[usize::from(address == AddressType::I64)];
        if let Some(engine) = slot.get() {
            return Ok(engine);
        }
        let engine = configure(address, self.reservation, self.portable)?;
        Ok(slot.get_or_init(|| engine))
    }
}

/// For 32-bit memories guard pages take the place of bounds checks; that is the default.
fn configure(
    address: AddressType,
    reservation: Option<u64>,
    portable: bool,
) -> Result<wasmtime::Engine> {
    let mut config = Config::new();
    if portable {
        // A target that is named is compiled for without a look at this processor.
        let host = target_lexicon::Triple::host().to_string();
        config.target(&host).map_err(|e| error::instantiate(&e))?;
    }
    config
        .cranelift_opt_level(OptLevel::Speed)
        .parallel_compilation(true)
        .wasm_relaxed_simd(true)
        .wasm_multi_memory(true)
        .wasm_memory64(true)
        .wasm_backtrace_max_frames(None)
        .max_wasm_stack(GUEST_STACK)
        .memory_may_move(false);
    match (reservation, address) {
        (Some(bytes), _) => _ = config.memory_reservation(bytes),
        (None, AddressType::I64) => _ = config.memory_reservation(WIDE),
        (None, AddressType::I32) => {}
    }
    wasmtime::Engine::new(&config).map_err(|e| error::instantiate(&e))
}

/// The most address space that this process may use, if there is a limit (`ulimit -v`).
#[cfg(unix)]
fn limit() -> Option<u64> {
    rustix::process::getrlimit(rustix::process::Resource::As).current
}

#[cfg(not(unix))]
const fn limit() -> Option<u64> {
    None
}

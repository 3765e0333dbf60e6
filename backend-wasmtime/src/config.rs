//! How Wasmtime is configured, for each type of addresses.

use std::sync::OnceLock;

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
}

/// Address space reserved for a 64-bit memory, which thus never moves: its pages may be mappings.
/// 256 GiB let some hundred guests live in a process with 47-bit addresses.
pub(crate) const WIDE: u64 = 256 << 30;

impl Engines {
    /// Engines whose modules another program compiles.
    pub(crate) fn isolated(compiler: CompilerCommand) -> Self {
        Self { compiler: Some(compiler), ..Self::default() }
    }

    pub(crate) fn get(&self, address: AddressType) -> Result<&wasmtime::Engine> {
        let slot = &self.engines[usize::from(address == AddressType::I64)];
        if let Some(engine) = slot.get() {
            return Ok(engine);
        }
        let engine = configure(address)?;
        Ok(slot.get_or_init(|| engine))
    }
}

/// For 32-bit memories guard pages take the place of bounds checks; that is the default.
fn configure(address: AddressType) -> Result<wasmtime::Engine> {
    let mut config = Config::new();
    config
        .cranelift_opt_level(OptLevel::Speed)
        .parallel_compilation(true)
        .wasm_relaxed_simd(true)
        .wasm_multi_memory(true)
        .wasm_memory64(true)
        .wasm_backtrace_max_frames(None)
        .max_wasm_stack(GUEST_STACK)
        .memory_may_move(false);
    if address == AddressType::I64 {
        config.memory_reservation(WIDE);
    }
    wasmtime::Engine::new(&config).map_err(|e| error::instantiate(&e))
}

//! Compiled modules of WasmEdge, and how a guest starts.

use std::sync::Arc;

use polychord_runtime_api::abi::PAGE;
use polychord_runtime_api::spi::{Module, Reads, Start, Started, Variants};
use polychord_runtime_api::{Error, Limits, ModuleInfo, Result};

use crate::aot::Cache;
use crate::config::{MAX_PAGES64, Mode, runtime_config};
use crate::guest::Guest;
use crate::instance::OwnedInstance;
use crate::live::Shared;
use crate::memory::{RESERVED, check_address_space};
use crate::shape::Shape;
use crate::{NAME, error, keeper};

/// A compiled guest.
pub(crate) struct WasmEdgeModule {
    modules: Variants<wasmedge_sdk::Module>,
    /// The cache of native code; none for the interpreter.
    cache: Option<Arc<Cache>>,
    shape: Shape,
    info: Arc<ModuleInfo>,
}

impl WasmEdgeModule {
    pub(crate) fn new(
        wasm: &[u8],
        info: Arc<ModuleInfo>,
        cache: Option<Arc<Cache>>,
    ) -> Result<Self> {
        let (shape, wasm) = Shape::read(wasm, info.table_limit(&Limits::default()))?;
        if let Some(cache) = &cache {
            keeper::start(cache)?;
        }
        let compile = |wasm: &[u8]| compile(cache.as_deref(), wasm, info.only_stoppable());
        let modules = Variants::new(&wasm, &info, NAME, Reads::Always, compile)?;
        Ok(Self { modules, cache, shape, info })
    }

    /// Says so if a guest could not start for lack of address space.
    fn explain(&self, error: Error) -> Error {
        let no_room = || {
            self.info.memory()?;
            let reason = check_address_space().err()?.to_string();
            let what = "address space for the guest's memory";
            Some(Error::OutOfMemory { engine: NAME, what, asked: RESERVED, reason })
        };
        no_room().unwrap_or(error)
    }
}

impl Module for WasmEdgeModule {
    fn start(&self, start: Start) -> Result<Started> {
        let host = start.host().clone();
        let mut pages = self.shape.max_pages(host.memory_limit());
        self.shape.check_sizes(pages)?;
        if self.info.grows_tables() {
            self.shape.check_tables(host.limits())?;
        }
        let can_be_stopped = host.limits().can_be_stopped();
        let compile = |wasm: &[u8]| compile(self.cache.as_deref(), wasm, can_be_stopped);
        let variant = self.modules.choose(host.limits(), compile)?;
        if variant.has_flag() {
            // The flag has a page of its own.
            self.shape.check_below_a_page(pages)?;
            pages = pages.max(1);
        }
        let mode = if self.cache.is_some() { Mode::Aot } else { Mode::Interpreter };
        let config = runtime_config(mode, pages)?;
        let shared = Arc::new(Shared::new(host, start.imports().to_vec())?);
        let instance = OwnedInstance::start(&config, variant.module(), shared, &self.info)
            .map_err(|error| self.explain(error))?;
        for (made, declared) in instance.memories().iter().zip(self.info.memories()) {
            check_real_size(declared.min_bytes, made.pages().saturating_mul(PAGE))?;
        }
        let time = instance.time_limit(&variant)?;
        Ok(start.finish(Guest::new(time, instance)))
    }
}

/// Loads a module to be run, whose guests can be stopped or not.
fn compile(
    cache: Option<&Cache>,
    wasm: &[u8],
    can_be_stopped: bool,
) -> Result<wasmedge_sdk::Module> {
    if can_be_stopped && cache.is_some_and(Cache::compiles_here) {
        Shape::check_loops(wasm)?;
    }
    load(cache, wasm)
}

/// Loads a module to be run: native code, or code that the interpreter reads.
fn load(cache: Option<&Cache>, wasm: &[u8]) -> Result<wasmedge_sdk::Module> {
    if let Some(cache) = cache {
        return cache.load(wasm);
    }
    let config = runtime_config(Mode::Interpreter, MAX_PAGES64)?;
    let module = wasmedge_sdk::Module::from_bytes(Some(&config), wasm);
    module.map_err(|e| error::compile(&e.to_string()))
}

/// Refuses a memory that is not as large as its module says.
fn check_real_size(asked: u64, made: u64) -> Result<()> {
    if made >= asked {
        return Ok(());
    }
    Err(Error::OutOfMemory {
        engine: NAME,
        what: "the guest's initial memory",
        asked,
        reason: format!("WasmEdge made only {made} bytes of it"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_memory_that_is_not_what_was_asked_is_refused() {
        assert!(check_real_size(PAGE, PAGE).is_ok());
        assert!(check_real_size(PAGE, 2 * PAGE).is_ok());
        let error = check_real_size(3 * PAGE, 2 * PAGE).unwrap_err().to_string();
        assert!(error.contains("196608") && error.contains("131072"), "{error}");
    }
}

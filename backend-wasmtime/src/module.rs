//! Compiled modules of Wasmtime, and how a guest starts.

use std::sync::Arc;

use polychord_runtime_api::abi::PAGE;
use polychord_runtime_api::spi::{Module, Reads, Start, Started, Variants};
use polychord_runtime_api::{ModuleInfo, Result};
use wasmtime::{Instance, Store};

use crate::config::Engines;
use crate::guest::Guest;
use crate::live::Live;
use crate::memory::State;
use crate::{NAME, code, error, function, imports, memory};

/// A compiled guest.
pub(crate) struct WasmtimeModule {
    engines: Arc<Engines>,
    modules: Variants<wasmtime::Module>,
    info: Arc<ModuleInfo>,
}

impl WasmtimeModule {
    pub(crate) fn new(engines: Arc<Engines>, wasm: &[u8], info: Arc<ModuleInfo>) -> Result<Self> {
        let compile = |wasm: &[u8]| code::of(&engines, wasm, info.address());
        let modules = Variants::new(wasm, &info, NAME, Reads::AfterStores, compile)?;
        Ok(Self { engines, modules, info })
    }
}

impl Module for WasmtimeModule {
    fn start(&self, start: Start) -> Result<Started> {
        let host = start.host().clone();
        let compile = |wasm: &[u8]| code::of(&self.engines, wasm, self.info.address());
        let variant = self.modules.choose(host.limits(), compile)?;
        let module = variant.module();
        let (memory_bytes, elements) = (host.memory_limit(), host.table_limit());
        // The page of a time limit's flag may be beyond the limit.
        let first = if variant.has_flag() { memory_bytes.max(PAGE) } else { memory_bytes };
        let state = State {
            instance: None,
            imports: Vec::new(),
            memories: Vec::new(),
            limits: memory::limits(first, elements),
            functions: Arc::default(),
        };
        let mut store = Store::new(module.engine(), state);
        store.limiter(|state| &mut state.limits);
        let imports = start.define(|item| imports::define(&mut store, &host, item))?;
        let instance = Instance::new(&mut store, module, &imports).map_err(|e| error::start(&e))?;
        let memories = self.info.memories().iter().filter_map(|memory| match memory.import {
            Some(index) => imports.get(index)?.clone().into_memory(),
            None => instance.get_memory(&mut store, &memory.name),
        });
        let memories = memories.collect();
        let time = memory::time_limit(&variant, &host, instance, &mut store)?;
        let functions = function::all(instance, &mut store);
        let state = store.data_mut();
        (state.instance, state.imports, state.memories) = (Some(instance), imports, memories);
        state.functions = Arc::new(functions);
        state.limits = memory::limits(memory_bytes, elements);
        Ok(start.finish(Guest { time, live: Live(store) }))
    }
}

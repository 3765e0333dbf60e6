//! Compiled modules of Wasmer, and how a guest starts.

use std::sync::Arc;

use polychord_runtime_api::spi::{Module, Reads, Start, Started, Variants};
use polychord_runtime_api::{ModuleInfo, Result};
use wasmer::sys::NativeEngineExt;
use wasmer::{Instance, Store};

use crate::code::Translator;
use crate::guest::Guest;
use crate::limits::Limited;
use crate::live::{Live, Parts, Shared};
use crate::{NAME, error, imports, memory};

/// A compiled guest.
pub(crate) struct WasmerModule {
    engine: wasmer::Engine,
    translator: Translator,
    modules: Variants<wasmer::Module>,
    info: Arc<ModuleInfo>,
}

impl WasmerModule {
    pub(crate) fn new(
        engine: wasmer::Engine,
        translator: Translator,
        wasm: &[u8],
        info: Arc<ModuleInfo>,
    ) -> Result<Self> {
        let compile = |wasm: &[u8]| translator.code(&engine, wasm);
        let modules = Variants::new(wasm, &info, NAME, Reads::AfterStores, compile)?;
        Ok(Self { engine, translator, modules, info })
    }
}

impl Module for WasmerModule {
    fn start(&self, start: Start) -> Result<Started> {
        let host = start.host().clone();
        let compile = |wasm: &[u8]| self.translator.code(&self.engine, wasm);
        let variant = self.modules.choose(host.limits(), compile)?;
        // Tunables belong to a copy of the engine, so each guest has limits of its own.
        let mut engine = self.engine.clone();
        engine.set_tunables(Limited::new(host.memory_limit(), host.table_limit()));
        let mut store = Store::new(engine);
        let shared = Arc::new(Shared::new(host.clone()));
        let imports = start.define(|item| imports::define(&mut store, &shared, item))?;
        let instance = Instance::new_by_index(&mut store, variant.module(), &imports);
        let instance = instance.map_err(error::instantiate)?;
        let time = memory::time_limit(&variant, &host, &instance, &store)?;
        shared.set(Parts::find(&instance, &imports, &self.info, &store));
        Ok(start.finish(Guest { time, live: Live { store, shared } }))
    }
}

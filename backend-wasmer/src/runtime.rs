use std::sync::Arc;
use std::time::{Duration, Instant};

use polychord_runtime_api::imports::HostFunction;
use polychord_runtime_api::{
    Alarm, Capabilities, Error, Host, LinearMemories, MappedLayers, Module, ModuleInfo, Result,
    Runtime, Value,
};
use wasmer::sys::NativeEngineExt;
use wasmer::{FunctionEnv, FunctionEnvMut, Instance, Memory, Store, StoreMut};

use crate::function::Exported;
use crate::memory::{self, Guest, Limited};
use crate::{NAME, error, function};

/// A compiled guest.
pub(crate) struct WasmerModule {
    engine: wasmer::Engine,
    module: wasmer::Module,
    info: Arc<ModuleInfo>,
    capabilities: Arc<Capabilities>,
}

/// A live guest.
struct WasmerRuntime {
    /// Dropped first.
    _mapped: MappedLayers,
    guest: Guest,
    host: Arc<Host>,
}

/// What host functions find.
pub(crate) struct State {
    host: Arc<Host>,
    /// As in [`Guest`]; none until the guest has started.
    memories: Vec<Memory>,
}

impl WasmerModule {
    pub(crate) const fn new(
        engine: wasmer::Engine,
        module: wasmer::Module,
        info: Arc<ModuleInfo>,
        capabilities: Arc<Capabilities>,
    ) -> Self {
        Self { engine, module, info, capabilities }
    }
}

impl Module for WasmerModule {
    fn info(&self) -> &Arc<ModuleInfo> {
        &self.info
    }

    fn capabilities(&self) -> &Arc<Capabilities> {
        &self.capabilities
    }

    fn start(&self, host: Arc<Host>) -> Result<Box<dyn Runtime>> {
        // Tunables belong to a copy of the engine, so each guest has limits of its own.
        let mut engine = self.engine.clone();
        engine.set_tunables(Limited::new(host.memory_limit(), host.table_limit()));
        let mut store = Store::new(engine);
        let state = State { host: host.clone(), memories: Vec::new() };
        let env = FunctionEnv::new(&mut store, state);
        let imports: Vec<_> = self
            .info
            .imports()
            .iter()
            .map(|import| function::import(&mut store, &env, import))
            .collect();
        let deadline = Deadline::set(&store, host.limits().call_time);
        let instance = Instance::new_by_index(&mut store, &self.module, &imports);
        let over = deadline.exceeded();
        let instance = instance.map_err(|e| error::instantiate(e, over))?;
        let exported = self.info.memories().iter();
        let memories: Vec<_> = exported
            .filter_map(|memory| instance.exports.get_memory(&memory.name).ok().cloned())
            .collect();
        env.as_mut(&mut store).memories.clone_from(&memories);
        let exported = self.info.functions().keys();
        let functions = exported.filter_map(|name| {
            let function = instance.exports.get_function(name).ok()?;
            Some((name.clone(), Exported::new(function, &store)))
        });
        let functions = functions.collect();
        let guest = Guest { store, functions, memories };
        Ok(Box::new(WasmerRuntime { _mapped: host.mapped_layers(), guest, host }))
    }
}

impl LinearMemories for WasmerRuntime {
    fn linear_memory(&self, index: usize) -> &[u8] {
        let Guest { store, memories, .. } = &self.guest;
        memories.get(index).map_or(&[], |memory| memory::bytes(memory, store))
    }

    fn linear_memory_mut(&mut self, index: usize) -> &mut [u8] {
        let Guest { store, memories, .. } = &mut self.guest;
        match memories.get(index) {
            Some(memory) => memory::bytes_mut(memory, store),
            None => &mut [],
        }
    }
}

impl Runtime for WasmerRuntime {
    fn host(&self) -> &Arc<Host> {
        &self.host
    }

    fn grow(&mut self, memory: usize, pages: u64) -> Result<u64> {
        let refuse = |reason: String| Error::OutOfMemory {
            engine: NAME,
            what: "growing the guest's memory",
            asked: pages.saturating_mul(polychord_runtime_api::abi::PAGE),
            reason,
        };
        let Guest { store, memories, .. } = &mut self.guest;
        let memory = memories.get(memory);
        let memory = memory.ok_or_else(|| refuse("it has none of this index".into()))?;
        let delta = u32::try_from(pages).map_err(|error| refuse(error.to_string()))?;
        let before = memory.grow(store, delta);
        Ok(before.map_err(|error| refuse(error.to_string()))?.0.into())
    }

    fn invoke(&mut self, export: &str, args: &[Value], results: &mut [Value]) -> Result<()> {
        let Guest { store, functions, .. } = &mut self.guest;
        let Some(function) = functions.get(export) else {
            return Err(Error::MissingExport { export: export.to_owned(), available: Vec::new() });
        };
        let deadline = Deadline::set(store, self.host.limits().call_time);
        let done = function.call(store, args, results);
        let over = deadline.exceeded();
        done.map_err(|e| error::call(e, export, over))
    }
}

/// The end of a call's time, at which the guest is interrupted.
struct Deadline {
    limit: Duration,
    /// None if there is no limit, or one beyond what the clock can express.
    at: Option<Instant>,
    _alarm: Option<Alarm>,
}

impl Deadline {
    fn set(store: &Store, limit: Option<Duration>) -> Self {
        let at = limit.and_then(|limit| Instant::now().checked_add(limit));
        let alarm = at.and_then(|at| set_alarm(store, at));
        Self { limit: limit.unwrap_or_default(), at, _alarm: alarm }
    }

    /// Ends the watch; the limit, if the call took longer.
    fn exceeded(self) -> Option<Duration> {
        self.at.filter(|at| Instant::now() >= *at).map(|_| self.limit)
    }
}

fn set_alarm(_: &Store, _: Instant) -> Option<Alarm> {
    None
}

impl State {
    /// Serves a call of a guest.
    pub(crate) fn serve(
        mut env: FunctionEnvMut<'_, Self>,
        function: &HostFunction,
        args: &[Value],
    ) -> Value {
        let (Self { host, memories }, store) = env.data_and_store_mut();
        function.call(host, &mut InCall { store, memories }, args)
    }
}

/// The memories of a guest that has called the host.
struct InCall<'a> {
    store: StoreMut<'a>,
    memories: &'a [Memory],
}

impl LinearMemories for InCall<'_> {
    fn linear_memory(&self, index: usize) -> &[u8] {
        self.memories.get(index).map_or(&[], |memory| memory::bytes(memory, &self.store))
    }

    fn linear_memory_mut(&mut self, index: usize) -> &mut [u8] {
        match self.memories.get(index) {
            Some(memory) => memory::bytes_mut(memory, &mut self.store),
            None => &mut [],
        }
    }
}

use std::sync::Arc;

use polychord_runtime_api::spi::imports::HostFunction;
use polychord_runtime_api::spi::{
    CompilerCommand, Host, Instance as GuestInstance, Module, Reads, Start, Started, TimeLimit,
    Variants, WholePages,
};
use polychord_runtime_api::{Error, LinearMemories, ModuleInfo, Result, Value};
use wasmer::sys::NativeEngineExt;
use wasmer::{FunctionEnv, FunctionEnvMut, Instance, Memory, Store, StoreMut};

use crate::function::Exported;
use crate::memory::{self, Guest, Limited};
use crate::{NAME, error, function, isolated};

/// A compiled guest.
pub(crate) struct WasmerModule {
    engine: wasmer::Engine,
    compiler: Compiler,
    modules: Variants<wasmer::Module>,
    info: Arc<ModuleInfo>,
}

/// A live guest.
struct WasmerRuntime {
    time: TimeLimit,
    guest: Guest,
}

/// What host functions find.
pub(crate) struct State {
    host: Arc<Host>,
    /// As in [`Guest`]; none until the guest has started.
    memories: Vec<Memory>,
}

impl WasmerModule {
    pub(crate) fn new(
        engine: wasmer::Engine,
        compiler: Compiler,
        wasm: &[u8],
        info: Arc<ModuleInfo>,
    ) -> Result<Self> {
        let modules = Variants::new(wasm, compile(&engine, &compiler, wasm)?);
        Ok(Self { engine, compiler, modules, info })
    }
}

/// The name of a compiler, and what runs it in a process of its own, if that is wanted.
type Compiler = (&'static str, Option<CompilerCommand>);

fn compile(
    engine: &wasmer::Engine,
    (name, isolated): &Compiler,
    wasm: &[u8],
) -> Result<wasmer::Module> {
    if let Some(command) = isolated {
        return isolated::compile(command, engine, name, wasm);
    }
    wasmer::Module::new(engine, wasm).map_err(|error| error::compile(&error))
}

impl Module for WasmerModule {
    fn start(&self, start: Start) -> Result<Started> {
        let host = start.host().clone();
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
        let stoppable = || {
            let compile = |wasm: &[u8]| compile(&self.engine, &self.compiler, wasm);
            self.modules.stoppable(NAME, Reads::AfterStores, compile)
        };
        let timed = match host.limits().call_time {
            Some(limit) => Some((limit, stoppable()?)),
            None => None,
        };
        let module = timed.map_or(self.modules.plain(), |(_, timed)| &timed.module);
        let instance = Instance::new_by_index(&mut store, module, &imports);
        let instance = instance.map_err(error::instantiate)?;
        let mut time = TimeLimit::none();
        if let Some((limit, timed)) = timed {
            time = memory::time_limit(limit, &instance, &timed.memory, &store)?;
            if let Some(start) = &timed.start {
                run_start(&instance, start, &time, &mut store)?;
            }
        }
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
        Ok(start.finish(WasmerRuntime { time, guest }))
    }
}

/// Runs a start function that is exported, under the time limit.
fn run_start(instance: &Instance, start: &str, time: &TimeLimit, store: &mut Store) -> Result<()> {
    let function = instance.exports.get_function(start).map_err(|error| {
        let reason = error.to_string();
        Error::Instantiate { engine: NAME, reason }
    })?;
    let mut call = || function.call(store, &[]).map(drop);
    time.run(|| call().map_err(|error| error::call(error, "the start function")))
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

    fn whole_pages(&mut self, index: usize) -> Option<WholePages<'_>> {
        self.guest.whole_pages(index)
    }
}

impl GuestInstance for WasmerRuntime {
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
        let Self { time, guest: Guest { store, functions, .. }, .. } = self;
        let Some(function) = functions.get(export) else {
            return Err(Error::MissingExport { export: export.to_owned(), available: Vec::new() });
        };
        let mut call = || function.call(store, args, results);
        time.run(|| call().map_err(|error| error::call(error, export)))
    }
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

use std::sync::Arc;
use std::time::{Duration, Instant};

use polychord_runtime_api::{
    Alarm, Capabilities, Error, Host, Import, LinearMemories, MappedLayers, Module, ModuleInfo,
    Result, Runtime, Value, ValueType, Watchdog,
};
use wasmer::sys::NativeEngineExt;
use wasmer::{
    Extern, Function, FunctionEnv, FunctionEnvMut, FunctionType, Instance, Memory, Store, StoreMut,
    Type,
};

use crate::memory::{self, Guest, Limited};
use crate::{NAME, error};

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
struct State {
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
        engine.set_tunables(Limited::new(host.memory_limit()));
        let mut store = Store::new(engine);
        let state = State { host: host.clone(), memories: Vec::new() };
        let env = FunctionEnv::new(&mut store, state);
        let imports: Vec<_> =
            self.info.imports().iter().map(|import| define(&mut store, &env, import)).collect();
        let deadline = Deadline::set(&store, host.limits().call_time);
        let instance = Instance::new_by_index(&mut store, &self.module, &imports);
        let over = deadline.exceeded();
        let instance = instance.map_err(|e| error::instantiate(e, over))?;
        let exported = self.info.memories().iter();
        let memories: Vec<_> = exported
            .filter_map(|memory| instance.exports.get_memory(&memory.name).ok().cloned())
            .collect();
        env.as_mut(&mut store).memories.clone_from(&memories);
        let guest = Guest { store, instance, memories };
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
        let Guest { store, instance, .. } = &mut self.guest;
        let Ok(function) = instance.exports.get_function(export) else {
            return Err(Error::MissingExport { export: export.to_owned(), available: Vec::new() });
        };
        let args: Vec<_> = args.iter().map(|value| to_engine(*value)).collect();
        let deadline = Deadline::set(store, self.host.limits().call_time);
        let out = function.call(store, &args);
        let over = deadline.exceeded();
        let out = out.map_err(|e| error::call(e, export, over))?;
        for (result, value) in results.iter_mut().zip(&out) {
            *result = from_engine(value);
        }
        Ok(())
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

#[cfg(unix)]
fn set_alarm(store: &Store, at: Instant) -> Option<Alarm> {
    let interrupter = store.interrupter();
    Some(Watchdog::set(at, Arc::new(move || interrupter.interrupt())))
}

/// Wasmer's host interrupts are signals; elsewhere the capability is not claimed.
#[cfg(not(unix))]
fn set_alarm(_: &Store, _: Instant) -> Option<Alarm> {
    None
}

fn define(store: &mut Store, env: &FunctionEnv<State>, import: &Import) -> Extern {
    let convert = |types: &[ValueType]| types.iter().map(|ty| to_type(*ty)).collect::<Vec<_>>();
    let ty = FunctionType::new(convert(&import.ty.params), convert(&import.ty.results));
    let function = import.function;
    let serve = move |mut env: FunctionEnvMut<'_, State>, params: &[wasmer::Value]| {
        let mut args = [Value::I32(0); 4];
        for (arg, param) in args.iter_mut().zip(params) {
            *arg = from_engine(param);
        }
        let (State { host, memories }, store) = env.data_and_store_mut();
        let mut guest = InCall { store, memories };
        Ok(vec![to_engine(function.call(host, &mut guest, &args[..params.len()]))])
    };
    Function::new_with_env(store, env, ty, serve).into()
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

const fn to_type(ty: ValueType) -> Type {
    match ty {
        ValueType::I32 => Type::I32,
        ValueType::I64 => Type::I64,
        ValueType::F32 => Type::F32,
        ValueType::F64 => Type::F64,
        _ => Type::V128,
    }
}

const fn to_engine(value: Value) -> wasmer::Value {
    match value {
        Value::I32(value) => wasmer::Value::I32(value),
        Value::I64(value) => wasmer::Value::I64(value),
        Value::F32(value) => wasmer::Value::F32(value),
        Value::F64(value) => wasmer::Value::F64(value),
        Value::V128(value) => wasmer::Value::V128(value),
        // `Value` is non-exhaustive for users; a new kind must be translated above.
        _ => wasmer::Value::I32(0),
    }
}

/// Only the types of [`ValueType`] occur: others cannot be called or imported.
fn from_engine(value: &wasmer::Value) -> Value {
    match value {
        wasmer::Value::I32(value) => Value::I32(*value),
        wasmer::Value::I64(value) => Value::I64(*value),
        wasmer::Value::F32(value) => Value::F32(*value),
        wasmer::Value::F64(value) => Value::F64(*value),
        wasmer::Value::V128(value) => Value::V128(*value),
        _ => Value::I32(0),
    }
}

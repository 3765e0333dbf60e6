use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use polychord_runtime_api::{
    Capabilities, Error, Host, Import, Limits, LinearMemories, MappedLayers, Module, ModuleInfo,
    Result, Runtime, Value, ValueType, Watchdog,
};
use wasmtime::{
    Caller, Extern, Func, FuncType, Instance, Memory, Store, StoreContext, StoreContextMut,
    StoreLimits, UpdateDeadline, Val, ValType,
};

use crate::engine::{Engines, Interruption};
use crate::{NAME, error, isolated, memory};

/// A compiled guest.
pub(crate) struct WasmtimeModule {
    engines: Arc<Engines>,
    wasm: Vec<u8>,
    plain: wasmtime::Module,
    /// The same with checks of the time, compiled when a guest with a limit is started.
    timed: OnceLock<wasmtime::Module>,
    info: Arc<ModuleInfo>,
    capabilities: Arc<Capabilities>,
}

/// A live guest.
struct WasmtimeRuntime {
    /// Dropped first.
    _mapped: MappedLayers,
    store: Store<State>,
    instance: Option<Instance>,
    /// Arguments and results of the last call, kept for their room.
    values: Vec<Val>,
}

/// What host functions and limits find in the store.
struct State {
    host: Arc<Host>,
    /// The exported ones, by the index that the host knows them by. None until the guest has
    /// started.
    memories: Vec<Memory>,
    limits: StoreLimits,
    deadline: Option<Instant>,
}

impl WasmtimeModule {
    pub(crate) fn new(
        engines: Arc<Engines>,
        wasm: &[u8],
        info: Arc<ModuleInfo>,
        capabilities: Arc<Capabilities>,
    ) -> Result<Self> {
        let plain = compile(&engines, wasm, &info, Interruption::Never)?;
        let wasm = wasm.to_vec();
        Ok(Self { engines, wasm, plain, timed: OnceLock::new(), info, capabilities })
    }

    fn for_limits(&self, limits: &Limits) -> Result<&wasmtime::Module> {
        if limits.call_time.is_none() {
            return Ok(&self.plain);
        }
        if let Some(module) = self.timed.get() {
            return Ok(module);
        }
        let module = compile(&self.engines, &self.wasm, &self.info, Interruption::AtEpochs)?;
        Ok(self.timed.get_or_init(|| module))
    }
}

fn compile(
    engines: &Engines,
    wasm: &[u8],
    info: &ModuleInfo,
    interruption: Interruption,
) -> Result<wasmtime::Module> {
    let engine = engines.get(info.address(), interruption)?;
    if let Some(command) = &engines.compiler {
        let timed = interruption == Interruption::AtEpochs;
        return isolated::compile(command, engine, (info.address(), timed), wasm);
    }
    wasmtime::Module::new(engine, wasm).map_err(|e| error::compile(&e))
}

impl Module for WasmtimeModule {
    fn info(&self) -> &Arc<ModuleInfo> {
        &self.info
    }

    fn capabilities(&self) -> &Arc<Capabilities> {
        &self.capabilities
    }

    fn start(&self, host: Arc<Host>) -> Result<Box<dyn Runtime>> {
        let module = self.for_limits(host.limits())?;
        let limits = memory::limits(host.memory_limit(), host.table_limit());
        let mapped = host.mapped_layers();
        let state = State { host, memories: Vec::new(), limits, deadline: None };
        let mut store = Store::new(module.engine(), state);
        store.limiter(|state| &mut state.limits);
        // Without effect in code that was compiled without checks of the time.
        store.set_epoch_deadline(1);
        store.epoch_deadline_callback(|store| Ok(store.data().at_tick()));
        let imports: Vec<_> =
            self.info.imports().iter().map(|import| define(&mut store, import)).collect();
        let mut runtime =
            WasmtimeRuntime { _mapped: mapped, store, instance: None, values: Vec::new() };
        let instance =
            runtime.timed("the start function", |store| Instance::new(store, module, &imports))?;
        let exported = self.info.memories().iter();
        let memories =
            exported.filter_map(|memory| instance.get_memory(&mut runtime.store, &memory.name));
        runtime.store.data_mut().memories = memories.collect();
        runtime.instance = Some(instance);
        Ok(Box::new(runtime))
    }
}

impl LinearMemories for WasmtimeRuntime {
    fn linear_memory(&self, index: usize) -> &[u8] {
        bytes(&self.store, index)
    }

    fn linear_memory_mut(&mut self, index: usize) -> &mut [u8] {
        bytes_mut(&mut self.store, index)
    }
}

impl Runtime for WasmtimeRuntime {
    fn host(&self) -> &Arc<Host> {
        &self.store.data().host
    }

    fn grow(&mut self, memory: usize, pages: u64) -> Result<u64> {
        let refuse = |reason: String| Error::OutOfMemory {
            engine: NAME,
            what: "growing the guest's memory",
            asked: pages.saturating_mul(polychord_runtime_api::abi::PAGE),
            reason,
        };
        let memory = self.store.data().memories.get(memory).copied();
        let memory = memory.ok_or_else(|| refuse("it has none of this index".into()))?;
        memory.grow(&mut self.store, pages).map_err(|error| refuse(error.to_string()))
    }

    fn invoke(&mut self, export: &str, args: &[Value], results: &mut [Value]) -> Result<()> {
        let instance = self.instance;
        let function = instance.and_then(|instance| instance.get_func(&mut self.store, export));
        let Some(function) = function else {
            return Err(Error::MissingExport { export: export.to_owned(), available: Vec::new() });
        };
        let mut values = std::mem::take(&mut self.values);
        values.clear();
        values.extend(args.iter().chain(&*results).map(|value| to_engine(*value)));
        let (given, out) = values.split_at_mut(args.len());
        let done = self.timed(export, |store| function.call(store, given, out));
        for (result, value) in results.iter_mut().zip(out) {
            *result = from_engine(value);
        }
        self.values = values;
        done
    }
}

impl WasmtimeRuntime {
    /// Runs guest code under the time limit.
    fn timed<T>(
        &mut self,
        operation: &str,
        run: impl FnOnce(&mut Store<State>) -> wasmtime::Result<T>,
    ) -> Result<T> {
        let limit: Option<Duration> = self.store.data().host.limits().call_time;
        // A limit beyond what the clock can express never comes.
        let deadline = limit.and_then(|limit| Instant::now().checked_add(limit));
        self.store.data_mut().deadline = deadline;
        let alarm = deadline.map(|deadline| {
            let engine = self.store.engine().clone();
            // Every guest of the engine wakes up, and goes on if its own time is not over.
            Watchdog::set(deadline, Arc::new(move || engine.increment_epoch()))
        });
        let result = run(&mut self.store);
        drop(alarm);
        result.map_err(|error| error::call(&error, operation, limit))
    }
}

impl State {
    /// Called when the epoch of the engine has changed.
    fn at_tick(&self) -> UpdateDeadline {
        match self.deadline {
            Some(deadline) if Instant::now() >= deadline => UpdateDeadline::Interrupt,
            _ => UpdateDeadline::Continue(1),
        }
    }
}

fn define(store: &mut Store<State>, import: &Import) -> Extern {
    let convert = |types: &[ValueType]| types.iter().map(|ty| to_type(*ty)).collect::<Vec<_>>();
    let ty = FuncType::new(store.engine(), convert(&import.ty.params), convert(&import.ty.results));
    let function = import.function;
    let serve = move |caller: Caller<'_, State>, params: &[Val], results: &mut [Val]| {
        let mut args = [Value::I32(0); 4];
        for (arg, param) in args.iter_mut().zip(params) {
            *arg = from_engine(param);
        }
        let host = caller.data().host.clone();
        results[0] = to_engine(function.call(&host, &mut InCall(caller), &args[..params.len()]));
        Ok(())
    };
    Func::new(store, ty, serve).into()
}

/// The memories of a guest that has called the host.
struct InCall<'a>(Caller<'a, State>);

impl LinearMemories for InCall<'_> {
    fn linear_memory(&self, index: usize) -> &[u8] {
        bytes(&self.0, index)
    }

    fn linear_memory_mut(&mut self, index: usize) -> &mut [u8] {
        bytes_mut(&mut self.0, index)
    }
}

fn bytes<'a>(store: impl Into<StoreContext<'a, State>>, index: usize) -> &'a [u8] {
    let store = store.into();
    match store.data().memories.get(index).copied() {
        Some(memory) => memory.data(store),
        None => &[],
    }
}

fn bytes_mut<'a>(store: impl Into<StoreContextMut<'a, State>>, index: usize) -> &'a mut [u8] {
    let store = store.into();
    match store.data().memories.get(index).copied() {
        Some(memory) => memory.data_mut(store),
        None => &mut [],
    }
}

const fn to_type(ty: ValueType) -> ValType {
    match ty {
        ValueType::I32 => ValType::I32,
        ValueType::I64 => ValType::I64,
        ValueType::F32 => ValType::F32,
        ValueType::F64 => ValType::F64,
        _ => ValType::V128,
    }
}

fn to_engine(value: Value) -> Val {
    match value {
        Value::I32(value) => Val::I32(value),
        Value::I64(value) => Val::I64(value),
        Value::F32(value) => Val::F32(value.to_bits()),
        Value::F64(value) => Val::F64(value.to_bits()),
        Value::V128(value) => Val::V128(value.into()),
        // `Value` is non-exhaustive for users; a new kind must be translated above.
        _ => Val::I32(0),
    }
}

/// Only the types of [`ValueType`] occur: others cannot be called or imported.
fn from_engine(value: &Val) -> Value {
    match value {
        Val::I32(value) => Value::I32(*value),
        Val::I64(value) => Value::I64(*value),
        Val::F32(bits) => Value::F32(f32::from_bits(*bits)),
        Val::F64(bits) => Value::F64(f64::from_bits(*bits)),
        Val::V128(value) => Value::V128(value.as_u128()),
        _ => Value::I32(0),
    }
}

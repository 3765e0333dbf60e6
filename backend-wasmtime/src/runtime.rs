use std::sync::Arc;

use polychord_runtime_api::abi::PAGE;
use polychord_runtime_api::spi::{
    Host, Import, Instance as GuestInstance, Module, Reads, Start, Started, TimeLimit, Variants,
    WholePages,
};
use polychord_runtime_api::{Error, LinearMemories, ModuleInfo, Result, Value, ValueType};
use wasmtime::{
    Caller, Extern, Func, FuncType, Instance, Memory, Store, StoreContext, StoreContextMut,
    StoreLimits, Val, ValType,
};

use crate::engine::Engines;
use crate::{NAME, error, isolated, memory};

/// A compiled guest.
pub(crate) struct WasmtimeModule {
    engines: Arc<Engines>,
    modules: Variants<wasmtime::Module>,
    info: Arc<ModuleInfo>,
}

/// A live guest.
struct WasmtimeRuntime {
    time: TimeLimit,
    store: Store<State>,
    instance: Instance,
    /// Arguments and results of the last call, kept for their room.
    values: Vec<Val>,
}

/// What host functions and limits find in the store.
pub(crate) struct State {
    host: Arc<Host>,
    /// The exported ones, by the index that the host knows them by. None until the guest has
    /// started.
    memories: Vec<Memory>,
    limits: StoreLimits,
}

impl WasmtimeModule {
    pub(crate) fn new(engines: Arc<Engines>, wasm: &[u8], info: Arc<ModuleInfo>) -> Result<Self> {
        let modules = Variants::new(wasm, compile(&engines, wasm, &info)?);
        Ok(Self { engines, modules, info })
    }
}

fn compile(engines: &Engines, wasm: &[u8], info: &ModuleInfo) -> Result<wasmtime::Module> {
    let engine = engines.get(info.address())?;
    if let Some(command) = &engines.compiler {
        return isolated::compile(command, engine, info.address(), wasm);
    }
    wasmtime::Module::new(engine, wasm).map_err(|e| error::compile(&e))
}

impl Module for WasmtimeModule {
    fn start(&self, start: Start) -> Result<Started> {
        let host = start.host().clone();
        let stoppable = || {
            let compile = |wasm: &[u8]| compile(&self.engines, wasm, &self.info);
            self.modules.stoppable(NAME, Reads::AfterStores, compile)
        };
        let timed = match host.limits().call_time {
            Some(limit) => Some((limit, stoppable()?)),
            None => None,
        };
        let module = timed.map_or(self.modules.plain(), |(_, timed)| &timed.module);
        let (memory_bytes, elements) = (host.memory_limit(), host.table_limit());
        // The page that guests with a time limit have for its flag may be beyond the limit.
        let first = if timed.is_some() { memory_bytes.max(PAGE) } else { memory_bytes };
        let state = State { host, memories: Vec::new(), limits: memory::limits(first, elements) };
        let mut store = Store::new(module.engine(), state);
        store.limiter(|state| &mut state.limits);
        let imports: Vec<_> =
            self.info.imports().iter().map(|import| define(&mut store, import)).collect();
        let instance = Instance::new(&mut store, module, &imports)
            .map_err(|e| error::call(&e, "the start function"))?;
        store.data_mut().limits = memory::limits(memory_bytes, elements);
        let mut time = TimeLimit::none();
        if let Some((limit, timed)) = timed {
            time = memory::time_limit(limit, instance, &timed.memory, &mut store)?;
        }
        let mut runtime = WasmtimeRuntime { time, store, instance, values: Vec::new() };
        if let Some(export) = timed.and_then(|(_, timed)| timed.start.as_deref()) {
            runtime.run(export, "the start function", &[], &mut [])?;
        }
        let exported = self.info.memories().iter();
        let memories =
            exported.filter_map(|memory| instance.get_memory(&mut runtime.store, &memory.name));
        runtime.store.data_mut().memories = memories.collect();
        Ok(start.finish(runtime))
    }
}

impl LinearMemories for WasmtimeRuntime {
    fn linear_memory(&self, index: usize) -> &[u8] {
        bytes(&self.store, index)
    }

    fn linear_memory_mut(&mut self, index: usize) -> &mut [u8] {
        bytes_mut(&mut self.store, index)
    }

    fn whole_pages(&mut self, index: usize) -> Option<WholePages<'_>> {
        memory::whole_pages(&mut self.store, index)
    }
}

impl GuestInstance for WasmtimeRuntime {
    fn grow(&mut self, memory: usize, pages: u64) -> Result<u64> {
        let refuse = |reason: String| Error::OutOfMemory {
            engine: NAME,
            what: "growing the guest's memory",
            asked: pages.saturating_mul(PAGE),
            reason,
        };
        let memory = self.store.data().memories.get(memory).copied();
        let memory = memory.ok_or_else(|| refuse("it has none of this index".into()))?;
        memory.grow(&mut self.store, pages).map_err(|error| refuse(error.to_string()))
    }

    fn invoke(&mut self, export: &str, args: &[Value], results: &mut [Value]) -> Result<()> {
        self.run(export, export, args, results)
    }
}

impl WasmtimeRuntime {
    /// Calls a function, which errors call `operation`, under the time limit.
    fn run(
        &mut self,
        export: &str,
        operation: &str,
        args: &[Value],
        results: &mut [Value],
    ) -> Result<()> {
        let Self { time, store, instance, values, .. } = self;
        let Some(function) = instance.get_func(&mut *store, export) else {
            return Err(Error::MissingExport { export: export.to_owned(), available: Vec::new() });
        };
        values.clear();
        values.extend(args.iter().chain(&*results).map(|value| to_engine(*value)));
        let (given, out) = values.split_at_mut(args.len());
        let mut call = || function.call(&mut *store, given, out);
        let done = time.run(|| call().map_err(|error| error::call(&error, operation)));
        for (result, value) in results.iter_mut().zip(out) {
            *result = from_engine(value);
        }
        done
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

pub(crate) fn bytes_mut<'a>(
    store: impl Into<StoreContextMut<'a, State>>,
    index: usize,
) -> &'a mut [u8] {
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

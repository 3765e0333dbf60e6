//! Compiled modules, live guests, their memory and their host functions.

use std::sync::Arc;

use polychord_runtime_api::spi::{Host, Import, Instance as GuestInstance, Module, Start, Started};
use polychord_runtime_api::{Error, LinearMemories, ModuleInfo, Result, Value, ValueType};
use wasmi::{
    Caller, Extern, F32, F64, Func, FuncType, Instance, Memory, Store, StoreContext,
    StoreContextMut, StoreLimits, StoreLimitsBuilder, V128, Val, ValType,
};

use crate::{NAME, error};

/// A compiled guest.
pub(crate) struct WasmiModule {
    module: wasmi::Module,
    info: Arc<ModuleInfo>,
}

/// A live guest.
struct WasmiRuntime {
    store: Store<State>,
    instance: Instance,
}

/// The state of a store, which host functions and limits find there.
struct State {
    host: Arc<Host>,
    /// The exported ones, by the index that the host knows them by. None until the guest has
    /// started.
    memories: Vec<Memory>,
    limits: StoreLimits,
}

impl WasmiModule {
    pub(crate) const fn new(module: wasmi::Module, info: Arc<ModuleInfo>) -> Self {
        Self { module, info }
    }
}

impl Module for WasmiModule {
    fn start(&self, start: Start) -> Result<Started> {
        let host = start.host().clone();
        let limits = StoreLimitsBuilder::new()
            .memory_size(usize::try_from(host.memory_limit()).unwrap_or(usize::MAX))
            .table_elements(usize::try_from(host.table_limit()).unwrap_or(usize::MAX))
            .build();
        let state = State { host, memories: Vec::new(), limits };
        let mut store = Store::new(self.module.engine(), state);
        store.limiter(|state| &mut state.limits);
        let imports: Vec<_> =
            self.info.imports().iter().map(|import| define(&mut store, import)).collect();
        let instance = Instance::new(&mut store, &self.module, &imports)
            .map_err(|e| error::call(&e, "the start function"))?;
        let exported = self.info.memories().iter();
        let memories = exported.filter_map(|memory| instance.get_memory(&store, &memory.name));
        store.data_mut().memories = memories.collect();
        Ok(start.finish(WasmiRuntime { store, instance }))
    }
}

impl LinearMemories for WasmiRuntime {
    fn linear_memory(&self, index: usize) -> &[u8] {
        bytes(&self.store, index)
    }

    fn linear_memory_mut(&mut self, index: usize) -> &mut [u8] {
        bytes_mut(&mut self.store, index)
    }
}

impl GuestInstance for WasmiRuntime {
    fn grow(&mut self, memory: usize, pages: u64) -> Result<u64> {
        let memory = self.store.data().memories.get(memory).copied();
        let before = match memory {
            Some(memory) => memory.grow(&mut self.store, pages).map_err(|e| e.to_string()),
            None => Err("it has none of this index".to_owned()),
        };
        before.map_err(|reason| Error::cannot_grow(NAME, pages, reason))
    }

    fn invoke(&mut self, export: &str, args: &[Value], results: &mut [Value]) -> Result<()> {
        let function = self.instance.get_func(&self.store, export);
        let function = function.ok_or_else(|| Error::missing_export(export))?;
        let args: Vec<_> = args.iter().map(|value| to_engine(*value)).collect();
        let mut out: Vec<_> = results.iter().map(|value| to_engine(*value)).collect();
        let called = function.call(&mut self.store, &args, &mut out);
        called.map_err(|e| error::call(&e, export))?;
        for (result, value) in results.iter_mut().zip(&out) {
            *result = from_engine(value);
        }
        Ok(())
    }
}

fn define(store: &mut Store<State>, import: &Import) -> Extern {
    let convert = |types: &[ValueType]| types.iter().map(|ty| to_type(*ty)).collect::<Vec<_>>();
    let ty = FuncType::new(convert(&import.ty.params), convert(&import.ty.results));
    let function = import.function;
    let serve = move |caller: Caller<'_, State>, params: &[Val], results: &mut [Val]| {
        let host = caller.data().host.clone();
        let params = params.iter().map(from_engine);
        results[0] = to_engine(function.serve(&host, &mut InCall(caller), params));
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

fn to_type(ty: ValueType) -> ValType {
    to_engine(ty.zero()).ty()
}

fn to_engine(value: Value) -> Val {
    value.convert(
        Val::I32,
        Val::I64,
        |value| Val::F32(F32::from_bits(value.to_bits())),
        |value| Val::F64(F64::from_bits(value.to_bits())),
        |value| Val::V128(V128::from(value)),
    )
}

/// Only the types of [`ValueType`] occur: others cannot be called or imported.
fn from_engine(value: &Val) -> Value {
    match value {
        Val::I32(value) => Value::I32(*value),
        Val::I64(value) => Value::I64(*value),
        Val::F32(value) => Value::F32(f32::from_bits(value.to_bits())),
        Val::F64(value) => Value::F64(f64::from_bits(value.to_bits())),
        Val::V128(value) => Value::V128(value.as_u128()),
        _ => Value::I32(0),
    }
}

//! Compiled modules, live guests, their memories and globals, and what they import.

use std::sync::Arc;

use polychord_runtime_api::spi::{
    GlobalAt, GlobalType, Host, HostFunction, Instance as GuestInstance, Item, MemoryType, Module,
    Start, Started, Stopped, with_values,
};
use polychord_runtime_api::{
    AddressType, Error, LinearMemories, ModuleInfo, Result, Value, ValueType,
};
use wasmi::{
    AsContext, AsContextMut, Caller, Extern, F32, F64, Func, FuncType, Global, Instance, Memory,
    Mutability, Store, StoreContext, StoreContextMut, StoreLimits, StoreLimitsBuilder, V128, Val,
    ValType,
};

use crate::{NAME, error};

/// A compiled guest.
pub(crate) struct WasmiModule {
    module: wasmi::Module,
    info: Arc<ModuleInfo>,
}

/// A guest, by its store or by what wasmi gives to a function of the host: between calls, and in the
/// middle of one.
struct Live<C>(C);

/// The state of a store, which functions of the host and limits find there.
struct State {
    host: Arc<Host>,
    /// None until the guest is there.
    instance: Option<Instance>,
    /// What the guest imports, in its order.
    imports: Vec<Extern>,
    /// By the index that the host knows them by.
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
        let (instance, imports, memories) = (None, Vec::new(), Vec::new());
        let state = State { host, instance, imports, memories, limits };
        let mut store = Store::new(self.module.engine(), state);
        store.limiter(|state| &mut state.limits);
        let imports = start.define(|item| define(&mut store, item))?;
        // Wasmi takes them in the order of their kinds, and in the module's order within each.
        let mut in_order = imports.clone();
        in_order.sort_by_key(|import| match import {
            Extern::Func(_) => 0,
            Extern::Table(_) => 1,
            Extern::Memory(_) => 2,
            Extern::Global(_) => 3,
        });
        let instance = Instance::new(&mut store, &self.module, &in_order)
            .map_err(|e| error::call(&e, "the start function"))?;
        let memories = self.info.memories().iter().filter_map(|memory| match memory.import {
            Some(index) => imports.get(index)?.into_memory(),
            None => instance.get_memory(&store, &memory.name),
        });
        let memories = memories.collect();
        let state = store.data_mut();
        (state.instance, state.imports, state.memories) = (Some(instance), imports, memories);
        Ok(start.finish(Live(store)))
    }
}

impl<C: AsContextMut<Data = State>> LinearMemories for Live<C> {
    fn linear_memory(&self, index: usize) -> &[u8] {
        bytes(self.0.as_context(), index)
    }

    fn linear_memory_mut(&mut self, index: usize) -> &mut [u8] {
        bytes_mut(self.0.as_context_mut(), index)
    }
}

impl<C: AsContextMut<Data = State>> GuestInstance for Live<C> {
    fn grow(&mut self, memory: usize, pages: u64) -> Result<u64> {
        let memory = self.0.as_context().data().memories.get(memory).copied();
        let before = match memory {
            Some(memory) => memory.grow(&mut self.0, pages).map_err(|e| e.to_string()),
            None => Err("it has none of this index".to_owned()),
        };
        before.map_err(|reason| Error::cannot_grow(NAME, pages, reason))
    }

    fn invoke(&mut self, export: &str, args: &[Value], results: &mut [Value]) -> Result<()> {
        let instance = self.0.as_context().data().instance;
        let function = instance.and_then(|instance| instance.get_func(&self.0, export));
        let function = function.ok_or_else(|| Error::missing_export(export))?;
        let args: Vec<_> = args.iter().map(|value| to_engine(*value)).collect();
        let mut out: Vec<_> = results.iter().map(|value| to_engine(*value)).collect();
        let called = function.call(&mut self.0, &args, &mut out);
        called.map_err(|e| error::call(&e, export))?;
        for (result, value) in results.iter_mut().zip(&out) {
            *result = from_engine(value);
        }
        Ok(())
    }

    fn global(&mut self, at: GlobalAt<'_>) -> Result<Value> {
        let global = find(&self.0, at)?;
        Ok(from_engine(&global.get(&self.0)))
    }

    fn set_global(&mut self, at: GlobalAt<'_>, value: Value) -> Result<()> {
        let global = find(&self.0, at)?;
        let set = global.set(&mut self.0, to_engine(value));
        set.map_err(|error| Error::call(NAME, "setting a global", None, error))
    }
}

fn find(store: &impl AsContext<Data = State>, at: GlobalAt<'_>) -> Result<Global> {
    let state = store.as_context();
    let global = match at {
        GlobalAt::Export(name) => state.data().instance.and_then(|it| it.get_global(store, name)),
        GlobalAt::Import(index) => state.data().imports.get(index).and_then(|it| it.into_global()),
        _ => None,
    };
    global.ok_or_else(|| Error::lost_global(NAME, at))
}

/// Something that a guest imports.
fn define(store: &mut Store<State>, item: &Item) -> Result<Extern> {
    match item {
        Item::Function(function) => Ok(function_of(store, function).into()),
        Item::Memory(ty) => memory(store, *ty).map(Extern::from),
        Item::Global(ty, value) => Ok(global(store, *ty, *value).into()),
        other => Err(refuse(format!("it imports {other:?}"))),
    }
}

fn refuse(reason: impl ToString) -> Error {
    Error::Instantiate { engine: NAME, reason: reason.to_string() }
}

fn memory(store: &mut Store<State>, ty: MemoryType) -> Result<Memory> {
    let ty = match ty.address {
        AddressType::I64 => wasmi::MemoryType::new64(ty.min_pages, ty.max_pages),
        AddressType::I32 => {
            let pages = |pages: u64| u32::try_from(pages).unwrap_or(u32::MAX).min(1 << 16);
            wasmi::MemoryType::new(pages(ty.min_pages), ty.max_pages.map(pages))
        }
    };
    Memory::new(store, ty).map_err(refuse)
}

fn global(store: &mut Store<State>, ty: GlobalType, value: Value) -> Global {
    let mutability = if ty.mutable { Mutability::Var } else { Mutability::Const };
    Global::new(store, to_engine(value), mutability)
}

fn function_of(store: &mut Store<State>, function: &HostFunction) -> Func {
    let convert = |types: &[ValueType]| types.iter().map(|ty| to_type(*ty)).collect::<Vec<_>>();
    let ty = function.ty();
    let ty = FuncType::new(convert(&ty.params), convert(&ty.results));
    let function = function.clone();
    let serve = move |caller: Caller<'_, State>, params: &[Val], results: &mut [Val]| {
        let host = caller.data().host.clone();
        let served = with_values(params.len() + results.len(), |values| {
            let (args, out) = values.split_at_mut(params.len());
            for (arg, param) in args.iter_mut().zip(params) {
                *arg = from_engine(param);
            }
            function.call(&host, &mut Live(caller), args, out)?;
            for (result, value) in results.iter_mut().zip(out) {
                *result = to_engine(*value);
            }
            Ok(())
        });
        // The host knows why, and tells the caller.
        served.map_err(|stopped: Stopped| wasmi::Error::new(stopped.to_string()))
    };
    Func::new(store, ty, serve)
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

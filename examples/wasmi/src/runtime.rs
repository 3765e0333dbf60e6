use std::sync::Arc;

use polychord_runtime_api::{
    Capabilities, Error, Host, Import, Module, ModuleInfo, Result, Runtime, Value, ValueType, abi,
};
use wasmi::{
    Caller, Extern, F32, F64, Func, FuncType, Instance, Memory, Store, StoreLimits,
    StoreLimitsBuilder, V128, Val, ValType,
};

use crate::{NAME, error};

/// A compiled guest.
pub(crate) struct WasmiModule {
    module: wasmi::Module,
    info: Arc<ModuleInfo>,
    capabilities: Arc<Capabilities>,
}

/// A live guest.
struct WasmiRuntime {
    store: Store<State>,
    instance: Instance,
}

/// What host functions and limits find in the store.
struct State {
    host: Arc<Host>,
    /// None until the guest has started.
    memory: Option<Memory>,
    limits: StoreLimits,
}

/// Most elements of a table: far more than a compiler emits, far less than a machine has.
const TABLE_ELEMENTS: usize = 1 << 20;

impl WasmiModule {
    pub(crate) const fn new(
        module: wasmi::Module,
        info: Arc<ModuleInfo>,
        capabilities: Arc<Capabilities>,
    ) -> Self {
        Self { module, info, capabilities }
    }
}

impl Module for WasmiModule {
    fn info(&self) -> &Arc<ModuleInfo> {
        &self.info
    }

    fn capabilities(&self) -> &Arc<Capabilities> {
        &self.capabilities
    }

    fn start(&self, host: Arc<Host>) -> Result<Box<dyn Runtime>> {
        let limits = StoreLimitsBuilder::new()
            .memory_size(usize::try_from(host.memory_limit()).unwrap_or(usize::MAX))
            .table_elements(TABLE_ELEMENTS)
            .build();
        let state = State { host, memory: None, limits };
        let mut store = Store::new(self.module.engine(), state);
        store.limiter(|state| &mut state.limits);
        let imports: Vec<_> =
            self.info.imports().iter().map(|import| define(&mut store, import)).collect();
        let instance = Instance::new(&mut store, &self.module, &imports)
            .map_err(|e| error::call(&e, "the start function"))?;
        store.data_mut().memory = instance.get_memory(&store, "memory");
        Ok(Box::new(WasmiRuntime { store, instance }))
    }
}

impl Runtime for WasmiRuntime {
    fn host(&self) -> &Arc<Host> {
        &self.store.data().host
    }

    fn memory(&self) -> &[u8] {
        self.store.data().memory.map_or(&[], |memory| memory.data(&self.store))
    }

    fn memory_mut(&mut self) -> &mut [u8] {
        match self.store.data().memory {
            Some(memory) => memory.data_mut(&mut self.store),
            None => &mut [],
        }
    }

    fn grow(&mut self, pages: u64) -> Result<u64> {
        let refuse = |reason: String| Error::OutOfMemory {
            engine: NAME,
            what: "growing the guest's memory",
            asked: pages.saturating_mul(abi::PAGE),
            reason,
        };
        let memory = self.store.data().memory.ok_or_else(|| refuse("it has none".into()))?;
        memory.grow(&mut self.store, pages).map_err(|error| refuse(error.to_string()))
    }

    fn invoke(&mut self, export: &str, args: &[Value], results: &mut [Value]) -> Result<()> {
        let Some(function) = self.instance.get_func(&self.store, export) else {
            return Err(Error::MissingExport { export: export.to_owned(), available: Vec::new() });
        };
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
    let serve = move |mut caller: Caller<'_, State>, params: &[Val], results: &mut [Val]| {
        let mut args = [Value::I32(0); 4];
        for (arg, param) in args.iter_mut().zip(params) {
            *arg = from_engine(param);
        }
        let (guest, state) = match caller.data().memory {
            Some(memory) => memory.data_and_store_mut(&mut caller),
            None => (&mut [][..], caller.data_mut()),
        };
        results[0] = to_engine(function.call(&state.host, guest, &args[..params.len()]));
        Ok(())
    };
    Func::new(store, ty, serve).into()
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
        Value::F32(value) => Val::F32(F32::from_bits(value.to_bits())),
        Value::F64(value) => Val::F64(F64::from_bits(value.to_bits())),
        Value::V128(value) => Val::V128(V128::from(value)),
        // `Value` is non-exhaustive for users; a new kind must be translated above.
        _ => Val::I32(0),
    }
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

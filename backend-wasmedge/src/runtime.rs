use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use polychord_runtime_api::abi::PAGE;
use polychord_runtime_api::imports::HOST_FUNCTIONS;
use polychord_runtime_api::{
    Capabilities, Error, FunctionType, Host, Module, ModuleInfo, Result, Runtime, Unmet, Value,
    ValueType,
};
use wasmedge_sdk::error::CoreError;
use wasmedge_sdk::{
    AsInstance, CallingFrame, FuncType, ImportObjectBuilder, Instance, ValType, WasmEdgeResult,
    WasmValue,
};
use wasmedge_sys::{SyncFn, ffi};
use wasmparser::{MemoryType, Parser, Payload};

use crate::aot::Cache;
use crate::engine::{MAX_PAGES64, runtime_config};
use crate::executor::Executor;
use crate::memory::{Guest, Imports, State};
use crate::{NAME, error};

/// A compiled guest.
pub(crate) struct WasmEdgeModule {
    /// Without checks for a time limit, if it is compiled.
    module: wasmedge_sdk::Module,
    /// What is needed to compile it again, with checks for a time limit.
    compiled: Option<Compiled>,
    shape: Shape,
    info: Arc<ModuleInfo>,
    capabilities: Arc<Capabilities>,
}

struct Compiled {
    wasm: Box<[u8]>,
    cache: Arc<Cache>,
    interruptible: OnceLock<wasmedge_sdk::Module>,
}

/// What is of interest in a module beside its exports.
#[derive(Default)]
struct Shape {
    memories: Vec<MemoryType>,
    has_start: bool,
}

/// A live guest.
struct WasmEdgeRuntime {
    guest: Guest,
    executor: Executor,
    host: Arc<Host>,
}

impl WasmEdgeModule {
    pub(crate) fn new(
        wasm: &[u8],
        info: Arc<ModuleInfo>,
        capabilities: Arc<Capabilities>,
        cache: Option<Arc<Cache>>,
    ) -> Result<Self> {
        let shape = Shape::read(wasm)?;
        shape.check_largest()?;
        let compiled = cache.map(|cache| Compiled {
            wasm: wasm.into(),
            cache,
            interruptible: OnceLock::new(),
        });
        let module = match &compiled {
            Some(Compiled { cache, .. }) => cache.load(wasm, false)?,
            None => {
                let config = runtime_config(true, MAX_PAGES64)?;
                wasmedge_sdk::Module::from_bytes(Some(&config), wasm)
                    .map_err(|e| error::compile(&e.to_string()))?
            }
        };
        Ok(Self { module, compiled, shape, info, capabilities })
    }

    /// The module to start under these limits. Checks for a time limit cost compiled code
    /// speed, so only guests that have one get them.
    fn for_limit(&self, limit: Option<Duration>) -> Result<&wasmedge_sdk::Module> {
        let (Some(_), Some(compiled)) = (limit, &self.compiled) else { return Ok(&self.module) };
        if let Some(module) = compiled.interruptible.get() {
            return Ok(module);
        }
        let module = compiled.cache.load(&compiled.wasm, true)?;
        Ok(compiled.interruptible.get_or_init(|| module))
    }
}

impl Module for WasmEdgeModule {
    fn info(&self) -> &Arc<ModuleInfo> {
        &self.info
    }

    fn capabilities(&self) -> &Arc<Capabilities> {
        &self.capabilities
    }

    fn start(&self, host: Arc<Host>) -> Result<Box<dyn Runtime>> {
        let limit = host.limits().call_time;
        self.shape.check_start(limit)?;
        let pages = self.shape.max_pages(host.memory_limit());
        self.shape.check_sizes(pages)?;
        let config = runtime_config(self.compiled.is_none(), pages)?;
        let memory = Arc::new(OnceLock::new());
        let imports = define(&self.info, State { host: host.clone(), memory: memory.clone() })
            .map_err(|e| error::instantiate(&e, limit))?;
        let guest = Guest::start(&config, self.for_limit(limit)?, imports)
            .map_err(|e| error::instantiate(&e, limit))?;
        if let (Some(made), Some(declared)) = (guest.memory(), self.info.memory()) {
            check_real_size(declared.min_bytes, made.pages().saturating_mul(PAGE))?;
            // Host functions find the memory from here on.
            _ = memory.set(made);
        }
        let executor = executor()?;
        Ok(Box::new(WasmEdgeRuntime { guest, executor, host }))
    }
}

impl Runtime for WasmEdgeRuntime {
    fn host(&self) -> &Arc<Host> {
        &self.host
    }

    fn memory(&self) -> &[u8] {
        self.guest.bytes()
    }

    fn memory_mut(&mut self) -> &mut [u8] {
        self.guest.bytes_mut()
    }

    fn grow(&mut self, pages: u64) -> Result<u64> {
        self.guest.grow(pages).ok_or_else(|| Error::OutOfMemory {
            engine: NAME,
            what: "growing the guest's memory",
            asked: pages.saturating_mul(PAGE),
            reason: match self.guest.memory() {
                Some(memory) => format!(
                    "it has {} pages, and its limit or the system allows no more",
                    memory.pages()
                ),
                None => "it has none".into(),
            },
        })
    }

    fn invoke(&mut self, export: &str, args: &[Value], results: &mut [Value]) -> Result<()> {
        let Ok(function) = self.guest.instance.get_func(export) else {
            return Err(Error::MissingExport { export: export.to_owned(), available: Vec::new() });
        };
        let args: Vec<_> = args.iter().map(|value| to_engine(*value).as_raw()).collect();
        let mut out: Vec<_> = results.iter().map(|value| to_engine(*value).as_raw()).collect();
        let limit = self.host.limits().call_time;
        let done = match limit.and_then(|limit| Instant::now().checked_add(limit)) {
            None => call(&mut self.executor, &function, &args, &mut out),
            Some(deadline) => call_until(executor()?, &function, &args, &mut out, deadline),
        };
        done.map_err(|code| error::call(code, export, limit))?;
        for (result, value) in results.iter_mut().zip(out) {
            *result = from_engine(WasmValue::from(value));
        }
        Ok(())
    }
}

#[allow(unsafe_code, reason = "the contract of the executor module is met here")]
fn call(
    executor: &mut Executor,
    function: &wasmedge_sys::Function,
    args: &[ffi::WasmEdge_Value],
    results: &mut [ffi::WasmEdge_Value],
) -> Result<(), u32> {
    // SAFETY: `invoke` is called with numbers and types of values that the module has; its
    // instance is part of the runtime that is borrowed.
    unsafe { executor.invoke(function, args, results) }
}

#[allow(unsafe_code, reason = "the contract of the executor module is met here")]
fn call_until(
    executor: Executor,
    function: &wasmedge_sys::Function,
    args: &[ffi::WasmEdge_Value],
    results: &mut [ffi::WasmEdge_Value],
    deadline: Instant,
) -> Result<(), u32> {
    // SAFETY: as in `call`.
    unsafe { executor.invoke_until(function, args, results, deadline) }
}

impl Shape {
    /// Reads what WasmEdge's limits are about. The module was validated.
    fn read(wasm: &[u8]) -> Result<Self> {
        let invalid = |error: wasmparser::BinaryReaderError| error::compile(error.message());
        let mut shape = Self::default();
        for payload in Parser::new(0).parse_all(wasm) {
            match payload.map_err(invalid)? {
                Payload::MemorySection(section) => {
                    for memory in section {
                        shape.memories.push(memory.map_err(invalid)?);
                    }
                }
                Payload::StartSection { .. } => shape.has_start = true,
                _ => {}
            }
        }
        Ok(shape)
    }

    /// Refuses memories that WasmEdge cannot have under any limits.
    fn check_largest(&self) -> Result<()> {
        let largest = self.memories.iter().map(|memory| memory.initial).max().unwrap_or(0);
        if largest <= u64::from(MAX_PAGES64) {
            return Ok(());
        }
        Err(Error::TooLarge {
            what: "a memory of the guest".into(),
            asked: largest.saturating_mul(PAGE),
            limit: u64::from(MAX_PAGES64) * PAGE,
            limited_by: "WasmEdge (beyond them its allocator maps over other memory of the host)"
                .into(),
        })
    }

    /// Refuses a time limit for a start function, which WasmEdge cannot stop.
    fn check_start(&self, limit: Option<Duration>) -> Result<()> {
        if !self.has_start || limit.is_none() {
            return Ok(());
        }
        let unmet = Unmet {
            field: "time_limit",
            needed: "yes, for the module's start function".into(),
            offered: "for exported functions only; export it and call it".into(),
        };
        Err(Error::Unmet { engine: NAME, unmet: vec![unmet] })
    }

    /// Most pages of any memory, by the limits and by what WasmEdge can have.
    fn max_pages(&self, memory_limit: u64) -> u32 {
        // One setting for all memories: those with 32-bit addresses must not outgrow them.
        let narrow = self.memories.iter().any(|memory| !memory.memory64);
        let most = if narrow { 1 << 16 } else { MAX_PAGES64 };
        u32::try_from(memory_limit / PAGE).unwrap_or(most).min(most)
    }

    /// Refuses memories that WasmEdge would silently make smaller.
    fn check_sizes(&self, max_pages: u32) -> Result<()> {
        let largest = self.memories.iter().map(|memory| memory.initial).max().unwrap_or(0);
        if largest <= u64::from(max_pages) {
            return Ok(());
        }
        Err(Error::TooLarge {
            what: "a memory of the guest".into(),
            asked: largest.saturating_mul(PAGE),
            limit: u64::from(max_pages) * PAGE,
            limited_by: format!("{NAME} with these limits"),
        })
    }
}

/// Refuses a memory that is not as large as its module says.
fn check_real_size(asked: u64, made: u64) -> Result<()> {
    if made >= asked {
        return Ok(());
    }
    Err(Error::OutOfMemory {
        engine: NAME,
        what: "the guest's initial memory",
        asked,
        reason: format!("WasmEdge made only {made} bytes of it"),
    })
}

fn executor() -> Result<Executor> {
    let reason = "WasmEdge has no memory for an executor".to_owned();
    Executor::new().ok_or(Error::Instantiate { engine: NAME, reason })
}

/// The host functions, for a guest with the addresses of `info`.
fn define(info: &ModuleInfo, state: State) -> WasmEdgeResult<Imports> {
    let module = polychord_runtime_api::abi::MODULE;
    let mut builder = ImportObjectBuilder::new(module, state)?;
    for (function, serve) in HOST_FUNCTIONS.iter().zip(SERVE) {
        let ty = to_type(&function.ty(info.address()));
        builder.with_func_by_type(function.name, ty, serve)?;
    }
    Ok(builder.build())
}

/// One for each of [`HOST_FUNCTIONS`]: WasmEdge takes plain functions, all with one state.
const SERVE: [SyncFn<State>; HOST_FUNCTIONS.len()] = [
    serve::<0>, serve::<1>, serve::<2>, serve::<3>, serve::<4>, serve::<5>, serve::<6>, serve::<7>,
    serve::<8>, serve::<9>,
];

/// Serves a call of host function number `INDEX`. Does not panic, which would end the process.
fn serve<const INDEX: usize>(
    state: &mut State,
    _: &mut Instance,
    _: &mut CallingFrame,
    params: Vec<WasmValue>,
) -> Result<Vec<WasmValue>, CoreError> {
    let mut args = [Value::I32(0); 4];
    let count = params.len().min(args.len());
    for (arg, param) in args.iter_mut().zip(params) {
        *arg = from_engine(param);
    }
    let host = state.host.clone();
    let result = HOST_FUNCTIONS[INDEX].call(&host, state.guest(), &args[..count]);
    Ok(vec![to_engine(result)])
}

fn to_type(ty: &FunctionType) -> FuncType {
    let convert = |types: &[ValueType]| {
        let convert = |ty: &ValueType| match ty {
            ValueType::I32 => ValType::I32,
            ValueType::I64 => ValType::I64,
            ValueType::F32 => ValType::F32,
            ValueType::F64 => ValType::F64,
            _ => ValType::V128,
        };
        types.iter().map(convert).collect()
    };
    FuncType::new(convert(&ty.params), convert(&ty.results))
}

fn to_engine(value: Value) -> WasmValue {
    match value {
        Value::I32(value) => WasmValue::from_i32(value),
        Value::I64(value) => WasmValue::from_i64(value),
        Value::F32(value) => WasmValue::from_f32(value),
        Value::F64(value) => WasmValue::from_f64(value),
        Value::V128(value) => WasmValue::from_v128(value.cast_signed()),
        // `Value` is non-exhaustive for users; a new kind must be translated above.
        _ => WasmValue::from_i32(0),
    }
}

/// Only the types of [`ValueType`] occur: others cannot be called or imported.
fn from_engine(value: WasmValue) -> Value {
    match value.ty() {
        ValType::I32 => Value::I32(value.to_i32()),
        ValType::I64 => Value::I64(value.to_i64()),
        ValType::F32 => Value::F32(value.to_f32()),
        ValType::F64 => Value::F64(value.to_f64()),
        ValType::V128 => Value::V128(value.to_v128().cast_unsigned()),
        _ => Value::I32(0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_memory_that_is_not_what_was_asked_is_refused() {
        assert!(check_real_size(PAGE, PAGE).is_ok());
        assert!(check_real_size(PAGE, 2 * PAGE).is_ok());
        let error = check_real_size(3 * PAGE, 2 * PAGE).unwrap_err().to_string();
        assert!(error.contains("196608") && error.contains("131072"), "{error}");
    }
}

//! What a guest imports, as WasmEdge has it: by its C interface, since the SDK allocates for each
//! call, and knows no memories with 64-bit addresses.
#![allow(unsafe_code)]

use std::collections::BTreeMap;
use std::ffi::c_void;
use std::slice;
use std::sync::Arc;

use polychord_runtime_api::spi::{GlobalType, HostFunction, Item, MemoryType, with_values};
use polychord_runtime_api::{AddressType, Error, ModuleInfo, Result, Value};
use wasmedge_sdk::{GlobalType as EngineGlobalType, ImportObject, Mutability, WasmEdgeResult};
use wasmedge_sys::{Function, Global, ffi};

use crate::live::{InCall, Shared};
use crate::values::{from_engine, to_engine, to_type, to_wasm};
use crate::{NAME, error};

/// What guests import from one module.
pub(crate) type Imports = ImportObject<()>;

/// What guests import, by the name of the module, of the items that `shared` has.
pub(crate) fn define(info: &ModuleInfo, shared: &Arc<Shared>) -> Result<BTreeMap<String, Imports>> {
    let mut modules = BTreeMap::new();
    let mut seen = std::collections::BTreeSet::new();
    for (import, item) in info.imports().iter().zip(&shared.items) {
        if !seen.insert((&import.module, &import.name)) {
            // Imported twice, it is the same thing.
            continue;
        }
        let module = match modules.entry(import.module.clone()) {
            std::collections::btree_map::Entry::Occupied(module) => module.into_mut(),
            std::collections::btree_map::Entry::Vacant(place) => {
                let made = Imports::create(&import.module, Box::new(()));
                place.insert(made.map_err(|e| error::instantiate(&e))?)
            }
        };
        let failed = |e: Box<_>| error::instantiate(&e);
        match item {
            Item::Function(function) => {
                module.add_func(&import.name, function_of(function, shared).map_err(failed)?);
            }
            Item::Global(ty, value) => {
                module.add_global(&import.name, global(*ty, *value).map_err(failed)?);
            }
            Item::Memory(ty) => add_memory(module, &import.name, *ty)?,
            other => return Err(no_memory(&format!("it imports {other:?}"))),
        }
    }
    Ok(modules)
}

fn no_memory(reason: &str) -> Error {
    Error::Instantiate { engine: NAME, reason: reason.to_owned() }
}

fn global(ty: GlobalType, value: Value) -> WasmEdgeResult<Global> {
    let mutability = if ty.mutable { Mutability::Var } else { Mutability::Const };
    let value = to_wasm(value);
    Global::create(&EngineGlobalType::new(value.ty(), mutability), value)
}

/// Makes a memory that the module owns. It always has a maximum: what the host allows.
fn add_memory(module: &mut Imports, name: &str, ty: MemoryType) -> Result<()> {
    let wide = ty.address == AddressType::I64;
    let max = ty.max_pages.unwrap_or(ty.min_pages);
    // SAFETY: makes a new object, or none.
    let limit = unsafe { ffi::WasmEdge_LimitCreateWithMax(ty.min_pages, max, wide, false) };
    // SAFETY: `limit` is a live object or null, which is refused.
    let memory_type = unsafe { ffi::WasmEdge_MemoryTypeCreate(limit) };
    // SAFETY: as above; what is made has copies of both.
    let memory = unsafe { ffi::WasmEdge_MemoryInstanceCreate(memory_type) };
    // SAFETY: made above, and used no more.
    unsafe { ffi::WasmEdge_MemoryTypeDelete(memory_type) };
    // SAFETY: as above.
    unsafe { ffi::WasmEdge_LimitDelete(limit) };
    if memory.is_null() {
        return Err(no_memory("WasmEdge has no memory for one that the host makes"));
    }
    let len = u32::try_from(name.len()).unwrap_or(0);
    // SAFETY: the bytes of `name` live while the string is used, which owns nothing.
    let name = unsafe { ffi::WasmEdge_StringWrap(name.as_ptr().cast(), len) };
    // SAFETY: only takes the pointer out.
    let module = unsafe { module.as_raw() };
    // SAFETY: both live, and the module owns the memory from here on.
    unsafe { ffi::WasmEdge_ModuleInstanceAddMemory(module, name, memory) };
    Ok(())
}

fn function_of(function: &HostFunction, shared: &Arc<Shared>) -> WasmEdgeResult<Function> {
    let ty = to_type(function.ty());
    let key = std::ptr::from_ref(function).cast_mut().cast();
    let data = Arc::as_ptr(shared).cast_mut().cast();
    // SAFETY: `serve` gets a function of the items of `shared`, and `shared`, which outlives all
    // functions of the guest: see `OwnedInstance`.
    unsafe { Function::create_with_custom_wrapper(&ty, serve, key, data, 0) }
}

/// Serves a call of a guest. Does not panic, which would end the process.
///
/// # Safety
///
/// To be called by WasmEdge, as [`function_of`] has told it: `function` is a [`HostFunction`] and
/// `shared` the [`Shared`] of the guest that calls; `params` and `results` have the lengths and the
/// types that the function has.
unsafe extern "C" fn serve(
    function: *mut c_void,
    shared: *mut c_void,
    _: *const ffi::WasmEdge_CallingFrameContext,
    params: *const ffi::WasmEdge_Value,
    params_len: u32,
    results: *mut ffi::WasmEdge_Value,
    results_len: u32,
) -> ffi::WasmEdge_Result {
    // SAFETY: by contract.
    let function = unsafe { &*function.cast::<HostFunction>() };
    // SAFETY: by contract, and all that is used in it may be shared.
    let shared = unsafe { &*shared.cast::<Shared>() };
    // SAFETY: by contract; without parameters the pointer may be null.
    let params = unsafe { values(params, params_len) };
    // SAFETY: as above.
    let out = unsafe { values_mut(results, results_len) };
    let served = with_values(params.len() + out.len(), |values| {
        let (args, results) = values.split_at_mut(params.len());
        for (arg, param) in args.iter_mut().zip(params) {
            *arg = from_engine(*param);
        }
        function.call(&shared.host, &mut InCall::new(shared), args, results)?;
        for (out, result) in out.iter_mut().zip(results) {
            *out = to_engine(*result);
        }
        Ok::<_, polychord_runtime_api::spi::Stopped>(())
    });
    match served {
        Ok(()) => ffi::WasmEdge_Result { Code: 0 },
        // SAFETY: makes a number of two. The host knows why, so the code says nothing; but it must not
        // be 1, which ends a call with success.
        Err(_) => unsafe { ffi::WasmEdge_ResultGen(USER_ERROR, STOPPED) },
    }
}

const USER_ERROR: ffi::WasmEdge_ErrCategory = ffi::WasmEdge_ErrCategory_UserLevelError;
const STOPPED: u32 = 2;

/// The parameters of a call.
///
/// # Safety
///
/// There are `len` values at `start`, for as long as the result is used.
unsafe fn values<'a>(start: *const ffi::WasmEdge_Value, len: u32) -> &'a [ffi::WasmEdge_Value] {
    match usize::try_from(len) {
        // SAFETY: the caller's promise.
        Ok(len) if !start.is_null() => unsafe { slice::from_raw_parts(start, len) },
        _ => &[],
    }
}

/// The results of a call.
///
/// # Safety
///
/// There are `len` values at `start` that nothing else uses, for as long as the result is used.
unsafe fn values_mut<'a>(
    start: *mut ffi::WasmEdge_Value,
    len: u32,
) -> &'a mut [ffi::WasmEdge_Value] {
    match usize::try_from(len) {
        // SAFETY: the caller's promise.
        Ok(len) if !start.is_null() => unsafe { slice::from_raw_parts_mut(start, len) },
        _ => &mut [],
    }
}

//! The functions of the host, as WasmEdge calls them: by its C interface, since the SDK allocates
//! for each call.
#![allow(unsafe_code)]

use std::ffi::c_void;
use std::slice;

use polychord_runtime_api::spi::imports::{HOST_FUNCTIONS, HostFunction};
use polychord_runtime_api::{FunctionType, ModuleInfo, Value, ValueType};
use wasmedge_sdk::{FuncType, ValType, WasmEdgeResult, WasmValue};
use wasmedge_sys::{Function, ffi};

use crate::memory::{Imports, State};

/// The host functions, for a guest with the addresses of `info`.
pub(crate) fn define(info: &ModuleInfo, state: State) -> WasmEdgeResult<Imports> {
    let mut imports = Imports::create(polychord_runtime_api::abi::MODULE, Box::new(state))?;
    let state: *mut State = imports.get_host_data_mut();
    for function in HOST_FUNCTIONS {
        let ty = to_type(&function.ty(info.address()));
        let key = std::ptr::from_ref(function).cast_mut().cast();
        // SAFETY: `serve` gets a function of the static table, and the state of the imports,
        // which own the function and are dropped with it.
        let made = unsafe {
            Function::create_with_custom_wrapper(&ty, serve, key, state.cast::<c_void>(), 0)
        };
        imports.add_func(function.name, made?);
    }
    Ok(imports)
}

/// Serves a call of a guest. Does not panic, which would end the process.
///
/// # Safety
///
/// To be called by WasmEdge, as [`define`] has told it: `function` is a [`HostFunction`] and
/// `state` is the [`State`] of the guest that calls, which nobody else uses meanwhile; `params`
/// and `results` have the lengths and the types that the function has.
unsafe extern "C" fn serve(
    function: *mut c_void,
    state: *mut c_void,
    _: *const ffi::WasmEdge_CallingFrameContext,
    params: *const ffi::WasmEdge_Value,
    params_len: u32,
    results: *mut ffi::WasmEdge_Value,
    results_len: u32,
) -> ffi::WasmEdge_Result {
    // SAFETY: by contract.
    let function = unsafe { &*function.cast::<HostFunction>() };
    // SAFETY: by contract.
    let state = unsafe { &mut *state.cast::<State>() };
    // SAFETY: by contract; without parameters the pointer may be null.
    let params = unsafe { values(params, params_len) };
    let mut args = [Value::I32(0); 4];
    for (arg, param) in args.iter_mut().zip(params) {
        *arg = from_engine(*param);
    }
    let host = state.host.clone();
    let result = to_engine(function.call(&host, state, &args[..params.len().min(4)]));
    if !results.is_null() && results_len == 1 {
        // SAFETY: by contract, and each host function has one result.
        unsafe { results.write(result) };
    }
    ffi::WasmEdge_Result { Code: 0 }
}

/// # Safety
///
/// There are so many values at `start`, for as long as the result is used.
unsafe fn values<'a>(start: *const ffi::WasmEdge_Value, len: u32) -> &'a [ffi::WasmEdge_Value] {
    match usize::try_from(len) {
        // SAFETY: the caller's promise.
        Ok(len) if !start.is_null() => unsafe { slice::from_raw_parts(start, len) },
        _ => &[],
    }
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

pub(crate) fn to_engine(value: Value) -> ffi::WasmEdge_Value {
    let value = match value {
        Value::I32(value) => WasmValue::from_i32(value),
        Value::I64(value) => WasmValue::from_i64(value),
        Value::F32(value) => WasmValue::from_f32(value),
        Value::F64(value) => WasmValue::from_f64(value),
        Value::V128(value) => WasmValue::from_v128(value.cast_signed()),
        // `Value` is non-exhaustive for users; a new kind must be translated above.
        _ => WasmValue::from_i32(0),
    };
    value.as_raw()
}

/// Only the types of [`ValueType`] occur: others cannot be called or imported.
pub(crate) fn from_engine(value: ffi::WasmEdge_Value) -> Value {
    let value = WasmValue::from(value);
    match value.ty() {
        ValType::I32 => Value::I32(value.to_i32()),
        ValType::I64 => Value::I64(value.to_i64()),
        ValType::F32 => Value::F32(value.to_f32()),
        ValType::F64 => Value::F64(value.to_f64()),
        ValType::V128 => Value::V128(value.to_v128().cast_unsigned()),
        _ => Value::I32(0),
    }
}

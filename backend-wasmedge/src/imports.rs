//! The functions of the host, as WasmEdge calls them: by its C interface, since the SDK allocates
//! for each call.
#![allow(unsafe_code)]

use std::ffi::c_void;
use std::slice;

use polychord_runtime_api::ModuleInfo;
use polychord_runtime_api::spi::imports::{HOST_FUNCTIONS, HostFunction};
use wasmedge_sdk::WasmEdgeResult;
use wasmedge_sys::{Function, ffi};

use crate::memory::{Imports, State};
use crate::values::{from_engine, to_engine, to_type};

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
/// `state` is the [`State`] of the guest that calls, which nothing else uses meanwhile; `params`
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
    let host = state.host.clone();
    let params = params.iter().map(|param| from_engine(*param));
    let result = to_engine(function.serve(&host, state, params));
    if !results.is_null() && results_len == 1 {
        // SAFETY: by contract, and each host function has one result.
        unsafe { results.write(result) };
    }
    ffi::WasmEdge_Result { Code: 0 }
}

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

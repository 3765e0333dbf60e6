//! Calls of functions of the host, beside WasmEdge's own C interface.
#![allow(clippy::print_stdout, reason = "it is what a benchmark is for")]
#![allow(unsafe_code, reason = "the C interface")]

#[path = "../../benches/host_calls/common.rs"]
mod common;

use std::ffi::c_void;

use common::{CALLS, GUEST};
use polychord_backend_wasmedge::{Mode, WasmEdgeEngine};
use wasmedge_sdk::config::{CommonConfigOptions, ConfigBuilder};
use wasmedge_sdk::{AsInstance, FuncType, ImportObject, Module, Store, ValType};
use wasmedge_sys::{Function, WasmValue, ffi};

/// Adds two numbers.
unsafe extern "C" fn add(
    _: *mut c_void,
    _: *mut c_void,
    _: *const ffi::WasmEdge_CallingFrameContext,
    params: *const ffi::WasmEdge_Value,
    _: u32,
    results: *mut ffi::WasmEdge_Value,
    _: u32,
) -> ffi::WasmEdge_Result {
    // SAFETY: WasmEdge passes two numbers.
    let [first, second] = unsafe { *params.cast::<[ffi::WasmEdge_Value; 2]>() };
    // SAFETY: it is a number.
    let a = unsafe { ffi::WasmEdge_ValueGetI32(first) };
    // SAFETY: as above.
    let b = unsafe { ffi::WasmEdge_ValueGetI32(second) };
    // SAFETY: makes a number.
    let sum = unsafe { ffi::WasmEdge_ValueGenI32(a.wrapping_add(b)) };
    // SAFETY: WasmEdge has room for one result.
    unsafe { results.write(sum) };
    ffi::WasmEdge_Result { Code: 0 }
}

fn main() {
    let wasm = wat::parse_str(GUEST).expect("it is a module");
    let config = ConfigBuilder::new(CommonConfigOptions::default()).build().expect("a config");
    let module = Module::from_bytes(Some(&config), wasm).expect("it is loaded");
    let mut imports = ImportObject::create("host", Box::new(())).expect("a module");
    let ty = FuncType::new(vec![ValType::I32; 2], vec![ValType::I32]);
    let none = std::ptr::null_mut();
    // SAFETY: `add` has that type, and uses neither of the pointers.
    let function = unsafe { Function::create_with_custom_wrapper(&ty, add, none, none, 0) };
    imports.add_func("add", function.expect("a function"));
    let instances = [("host".to_owned(), &mut imports)].into();
    let mut store = Store::new(Some(&config), instances).expect("a store");
    let mut instance = store.register_active_module(&module).expect("it starts");
    let mut run = || {
        let mut function = instance.get_func_mut("run").expect("it is exported");
        let results = store.executor().call_func(&mut function, [WasmValue::from_i32(CALLS)]);
        results.map_or(0, |results| results[0].to_i32())
    };
    let engine = WasmEdgeEngine::new(Mode::Interpreter).expect("it can run here");
    // Its C interface has values only.
    common::compare(&engine, &mut [(common::UNTYPED, &mut run)]);
}

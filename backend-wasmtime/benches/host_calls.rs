//! Calls of functions of the host, beside Wasmtime's own API.
#![allow(clippy::print_stdout, reason = "it is what a benchmark is for")]

#[path = "../../benches/host_calls/common.rs"]
mod common;

use common::{CALLS, GUEST};
use polychord_backend_wasmtime::WasmtimeEngine;
use wasmtime::{Caller, Engine, Func, FuncType, Instance, Module, Store, Val, ValType};

fn main() -> wasmtime::Result<()> {
    // Stores have a state, as ours do.
    let engine = Engine::default();
    let wasm = wat::parse_str(GUEST).expect("it is a module");
    let module = Module::new(&engine, wasm)?;
    let run = |store: &mut Store<u64>, add: Func| {
        let instance = Instance::new(&mut *store, &module, &[add.into()])?;
        instance.get_typed_func::<i32, i32>(store, "run")
    };
    let mut typed = Store::new(&engine, 0);
    let add = |_: Caller<'_, u64>, a: i32, b: i32| a.wrapping_add(b);
    let add = Func::wrap(&mut typed, add);
    let typed_run = run(&mut typed, add)?;
    let mut untyped = Store::new(&engine, 0);
    let ty = FuncType::new(&engine, [ValType::I32, ValType::I32], [ValType::I32]);
    let add = |_: Caller<'_, u64>, args: &[Val], results: &mut [Val]| {
        results[0] = Val::I32(args[0].unwrap_i32().wrapping_add(args[1].unwrap_i32()));
        Ok(())
    };
    let add = Func::new(&mut untyped, ty, add);
    let untyped_run = run(&mut untyped, add)?;
    common::compare(
        &WasmtimeEngine::new().expect("it can run here"),
        &mut [
            ("wasmtime::Func::wrap", &mut || typed_run.call(&mut typed, CALLS).unwrap_or(0)),
            ("wasmtime::Func::new", &mut || untyped_run.call(&mut untyped, CALLS).unwrap_or(0)),
        ],
    );
    Ok(())
}

//! What calls between host and guest cost, beside Wasmtime's own interface.
#![allow(missing_docs, clippy::unwrap_used, clippy::print_stdout, reason = "a tool for developers")]

#[path = "../../benches/host_calls/mod.rs"]
mod host_calls;

use polychord_backend_wasmtime::WasmtimeEngine;
use wasmtime::{Engine, Func, FuncType, Instance, Module, Store, Val, ValType};

fn main() {
    let engine = Engine::default();
    let module = Module::new(&engine, wat::parse_str(host_calls::GUEST).unwrap()).unwrap();
    // Each has a guest of its own.
    let start = || {
        let mut store = Store::new(&engine, ());
        let typed = Func::wrap(&mut store, |a: i32, b: i32| a.wrapping_add(b));
        let ty = FuncType::new(&engine, [ValType::I32, ValType::I32], [ValType::I32]);
        let untyped = Func::new(&mut store, ty, |_, args, results| {
            if let [Val::I32(a), Val::I32(b)] = args {
                results[0] = Val::I32(a.wrapping_add(*b));
            }
            Ok(())
        });
        let imports = [typed.into(), untyped.into()];
        let instance = Instance::new(&mut store, &module, &imports).unwrap();
        (store, instance)
    };
    let import = |export: &str| -> host_calls::Run<'_> {
        let (mut store, instance) = start();
        let run = instance.get_typed_func::<i32, i32>(&mut store, export).unwrap();
        Box::new(move |times| {
            run.call(&mut store, times).unwrap();
        })
    };
    let (mut store, instance) = start();
    let add = instance.get_typed_func::<(i32, i32), i32>(&mut store, "add").unwrap();
    let typed: host_calls::Run<'_> = Box::new(move |times| {
        for number in 0..times {
            assert_eq!(add.call(&mut store, (number, 1)).unwrap(), number + 1);
        }
    });
    let (mut store, instance) = start();
    let add = instance.get_func(&mut store, "add").unwrap();
    let untyped: host_calls::Run<'_> = Box::new(move |times| {
        for number in 0..times {
            let mut results = [Val::I32(0)];
            add.call(&mut store, &[Val::I32(number), Val::I32(1)], &mut results).unwrap();
            assert_eq!(results[0].i32(), Some(number + 1));
        }
    });
    let own =
        [Some(import("call_typed")), Some(import("call_untyped")), Some(typed), Some(untyped)];
    host_calls::compare("wasmtime", &WasmtimeEngine::new().unwrap(), own);
}

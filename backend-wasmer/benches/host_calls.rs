//! What calls between host and guest cost, beside Wasmer's own interface.
#![allow(missing_docs, clippy::unwrap_used, clippy::print_stdout, reason = "a tool for developers")]

#[path = "../../benches/host_calls/mod.rs"]
mod host_calls;

use polychord_backend_wasmer::WasmerEngine;
use wasmer::{Function, FunctionType, Instance, Module, Store, Type, Value, imports};

fn main() {
    let wasm = wat::parse_str(host_calls::GUEST).unwrap();
    // Each has a guest of its own.
    let start = || {
        let mut store = Store::default();
        let typed = Function::new_typed(&mut store, |a: i32, b: i32| a.wrapping_add(b));
        let ty = FunctionType::new([Type::I32, Type::I32], [Type::I32]);
        let untyped = Function::new(&mut store, ty, |args| match args {
            [Value::I32(a), Value::I32(b)] => Ok(vec![Value::I32(a.wrapping_add(*b))]),
            _ => Ok(vec![Value::I32(0)]),
        });
        let module = Module::new(&store, &wasm).unwrap();
        let imports = imports! { "host" => { "typed" => typed, "untyped" => untyped } };
        let instance = Instance::new(&mut store, &module, &imports).unwrap();
        (store, instance)
    };
    let import = |export: &str| -> host_calls::Run<'_> {
        let (mut store, instance) = start();
        let run = instance.exports.get_typed_function::<i32, i32>(&store, export).unwrap();
        Box::new(move |times| {
            run.call(&mut store, times).unwrap();
        })
    };
    let (mut store, instance) = start();
    let add = instance.exports.get_typed_function::<(i32, i32), i32>(&store, "add").unwrap();
    let typed: host_calls::Run<'_> = Box::new(move |times| {
        for number in 0..times {
            assert_eq!(add.call(&mut store, number, 1).unwrap(), number + 1);
        }
    });
    let (mut store, instance) = start();
    let add = instance.exports.get_function("add").unwrap().clone();
    let untyped: host_calls::Run<'_> = Box::new(move |times| {
        for number in 0..times {
            let results = add.call(&mut store, &[Value::I32(number), Value::I32(1)]).unwrap();
            assert_eq!(results[0].i32(), Some(number + 1));
        }
    });
    let own =
        [Some(import("call_typed")), Some(import("call_untyped")), Some(typed), Some(untyped)];
    host_calls::compare("wasmer", &WasmerEngine::new().unwrap(), own);
}

//! Calls of functions of the host, beside Wasmer's own API.
#![allow(clippy::print_stdout, reason = "it is what a benchmark is for")]

#[path = "../../benches/host_calls/common.rs"]
mod common;

use std::fmt;

use common::{CALLS, GUEST};
use polychord_backend_wasmer::WasmerEngine;
use wasmer::{
    Function, FunctionEnv, FunctionEnvMut, FunctionType, Instance, Memory, Module, Store, Type,
    TypedFunction, Value,
};

/// Functions have a state, as ours do: the guest's memory.
type State = Option<Memory>;

/// A guest that calls one function.
struct Guest {
    store: Store,
    run: TypedFunction<i32, i32>,
}

/// The end of a call.
#[derive(Debug)]
struct Failed;

impl fmt::Display for Failed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("it has failed")
    }
}

impl std::error::Error for Failed {}

impl Guest {
    fn new(add: impl FnOnce(&mut Store, &FunctionEnv<State>) -> Function) -> Self {
        let mut store = Store::default();
        let module = Module::new(&store, wat::parse_str(GUEST).expect("it is a module"));
        let env = FunctionEnv::new(&mut store, None);
        let add = add(&mut store, &env);
        let module = module.expect("it is compiled");
        let instance = Instance::new_by_index(&mut store, &module, &[add.into()]);
        let instance = instance.expect("it starts");
        *env.as_mut(&mut store) = instance.exports.get_memory("memory").ok().cloned();
        let run = instance.exports.get_typed_function(&store, "run").expect("it is exported");
        Self { store, run }
    }

    fn run(&mut self) -> i32 {
        self.run.call(&mut self.store, CALLS).unwrap_or(0)
    }
}

fn main() {
    let mut adds = Guest::new(|store, env| {
        let add = |_: FunctionEnvMut<'_, State>, a: i32, b: i32| a.wrapping_add(b);
        Function::new_typed_with_env(store, env, add)
    });
    let mut may_fail = Guest::new(|store, env| {
        let add = |_: FunctionEnvMut<'_, State>, a: i32, b: i32| match b {
            ..0 => Err(Failed),
            _ => Ok(a.wrapping_add(b)),
        };
        Function::new_typed_with_env(store, env, add)
    });
    let mut reads = Guest::new(|store, env| {
        let add = |mut env: FunctionEnvMut<'_, State>, a: i32, b: i32| {
            let (memory, store) = env.data_and_store_mut();
            let mut zero = [0; 4];
            let view = memory.as_ref().ok_or(Failed)?.view(&store);
            view.read(16, &mut zero).map_err(|_| Failed)?;
            Ok::<_, Failed>(a.wrapping_add(b).wrapping_add(i32::from_le_bytes(zero)))
        };
        Function::new_typed_with_env(store, env, add)
    });
    let mut untyped = Guest::new(|store, env| {
        let ty = FunctionType::new([Type::I32, Type::I32], [Type::I32]);
        let add = |_: FunctionEnvMut<'_, State>, args: &[Value]| {
            Ok(vec![Value::I32(args[0].unwrap_i32().wrapping_add(args[1].unwrap_i32()))])
        };
        Function::new_with_env(store, env, ty, add)
    });
    common::compare(
        &WasmerEngine::new().expect("it can run here"),
        &mut [
            (common::ADDS, &mut || adds.run()),
            (common::MAY_FAIL, &mut || may_fail.run()),
            (common::READS, &mut || reads.run()),
            (common::UNTYPED, &mut || untyped.run()),
        ],
    );
}

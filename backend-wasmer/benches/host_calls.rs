//! Calls of functions of the host, beside Wasmer's own API.
#![allow(clippy::print_stdout, reason = "it is what a benchmark is for")]

#[path = "../../benches/host_calls/common.rs"]
mod common;

use common::{CALLS, GUEST};
use polychord_backend_wasmer::WasmerEngine;
use wasmer::{
    Function, FunctionEnv, FunctionEnvMut, FunctionType, Instance, Module, Store, Type, Value,
};

fn main() {
    let mut store = Store::default();
    let module = Module::new(&store, wat::parse_str(GUEST).expect("it is a module"));
    let module = module.expect("it is compiled");
    // Functions have a state, as ours do.
    let env = FunctionEnv::new(&mut store, 0_u64);
    let add = |_: FunctionEnvMut<'_, u64>, a: i32, b: i32| a.wrapping_add(b);
    let typed = Function::new_typed_with_env(&mut store, &env, add);
    let ty = FunctionType::new([Type::I32, Type::I32], [Type::I32]);
    let add = |_: FunctionEnvMut<'_, u64>, args: &[Value]| {
        Ok(vec![Value::I32(args[0].unwrap_i32().wrapping_add(args[1].unwrap_i32()))])
    };
    let untyped = Function::new_with_env(&mut store, &env, ty, add);
    let run = [typed, untyped].map(|add| {
        let instance = Instance::new_by_index(&mut store, &module, &[add.into()]);
        let instance = instance.expect("it starts");
        let run = instance.exports.get_typed_function::<i32, i32>(&store, "run");
        run.expect("it is exported")
    });
    let store = std::cell::RefCell::new(store);
    let call = |index: usize| run[index].call(&mut *store.borrow_mut(), CALLS).unwrap_or(0);
    common::compare(
        &WasmerEngine::new().expect("it can run here"),
        &mut [
            ("wasmer::Function::new_typed", &mut || call(0)),
            ("wasmer::Function::new", &mut || call(1)),
        ],
    );
}

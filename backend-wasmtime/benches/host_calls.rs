//! Calls of functions of the host, beside Wasmtime's own API.
#![allow(clippy::print_stdout, reason = "it is what a benchmark is for")]

#[path = "../../benches/host_calls/common.rs"]
mod common;

use common::{CALLS, GUEST};
use polychord_backend_wasmtime::WasmtimeEngine;
use wasmtime::{
    Caller, Engine, Error, Func, FuncType, Instance, Memory, Module, Result, Store, TypedFunc, Val,
    ValType,
};

/// Stores have a state, as ours do: the guest's memory.
type State = Option<Memory>;

/// A guest that calls one function.
struct Guest {
    store: Store<State>,
    run: TypedFunc<i32, i32>,
}

impl Guest {
    fn new(module: &Module, add: impl FnOnce(&mut Store<State>) -> Func) -> Result<Self> {
        let mut store = Store::new(module.engine(), None);
        let add = add(&mut store);
        let instance = Instance::new(&mut store, module, &[add.into()])?;
        *store.data_mut() = instance.get_memory(&mut store, "memory");
        let run = instance.get_typed_func(&mut store, "run")?;
        Ok(Self { store, run })
    }

    fn run(&mut self) -> i32 {
        self.run.call(&mut self.store, CALLS).unwrap_or(0)
    }
}

fn main() -> Result<()> {
    let engine = Engine::default();
    let module = Module::new(&engine, wat::parse_str(GUEST).expect("it is a module"))?;
    let mut adds = Guest::new(&module, |store| {
        Func::wrap(store, |_: Caller<'_, State>, a: i32, b: i32| a.wrapping_add(b))
    })?;
    let mut may_fail = Guest::new(&module, |store| {
        Func::wrap(store, |_: Caller<'_, State>, a: i32, b: i32| match b {
            ..0 => Err(Error::msg("it is negative")),
            _ => Ok(a.wrapping_add(b)),
        })
    })?;
    let mut reads = Guest::new(&module, |store| {
        Func::wrap(store, |caller: Caller<'_, State>, a: i32, b: i32| {
            let memory = caller.data().as_ref().ok_or_else(|| Error::msg("no memory"))?;
            let mut zero = [0; 4];
            memory.read(&caller, 16, &mut zero)?;
            Ok(a.wrapping_add(b).wrapping_add(i32::from_le_bytes(zero)))
        })
    })?;
    let ty = FuncType::new(&engine, [ValType::I32, ValType::I32], [ValType::I32]);
    let mut untyped = Guest::new(&module, |store| {
        let add = |_: Caller<'_, State>, args: &[Val], results: &mut [Val]| {
            results[0] = Val::I32(args[0].unwrap_i32().wrapping_add(args[1].unwrap_i32()));
            Ok(())
        };
        Func::new(store, ty, add)
    })?;
    common::compare(
        &WasmtimeEngine::new().expect("it can run here"),
        &mut [
            (common::ADDS, &mut || adds.run()),
            (common::MAY_FAIL, &mut || may_fail.run()),
            (common::READS, &mut || reads.run()),
            (common::UNTYPED, &mut || untyped.run()),
        ],
    );
    Ok(())
}

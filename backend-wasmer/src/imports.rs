//! Functions of the host, as guests import them: typed for what guests call while they compute,
//! since a call by values allocates.

use std::sync::Arc;

use polychord_runtime_api::abi::code;
use polychord_runtime_api::spi::imports::HostFunction;
use polychord_runtime_api::spi::{Host, Import};
use polychord_runtime_api::{LinearMemories, Value, ValueType};
use wasmer::{
    Extern, Function, FunctionEnv, FunctionEnvMut, FunctionType, Memory, Store, StoreMut,
};

use crate::memory;
use crate::values::{from_engine, to_engine, to_type};

/// The state that host functions find.
pub(crate) struct State {
    host: Arc<Host>,
    /// The exported ones, by the index that the host knows them by; none until the guest has
    /// started.
    pub(crate) memories: Vec<Memory>,
}

impl State {
    pub(crate) const fn new(host: Arc<Host>) -> Self {
        Self { host, memories: Vec::new() }
    }

    /// Serves a call of a guest.
    fn serve(
        mut env: FunctionEnvMut<'_, Self>,
        function: &HostFunction,
        params: impl IntoIterator<Item = Value>,
    ) -> Value {
        let (Self { host, memories }, store) = env.data_and_store_mut();
        function.serve(host, &mut InCall { store, memories }, params)
    }
}

/// The memories of a guest that has called the host.
struct InCall<'a> {
    store: StoreMut<'a>,
    memories: &'a [Memory],
}

impl LinearMemories for InCall<'_> {
    fn linear_memory(&self, index: usize) -> &[u8] {
        memory::bytes(self.memories.get(index), &self.store)
    }

    fn linear_memory_mut(&mut self, index: usize) -> &mut [u8] {
        memory::bytes_mut(self.memories.get(index), &mut self.store)
    }
}

/// The host function that a guest imports.
pub(crate) fn define(store: &mut Store, env: &FunctionEnv<State>, import: &Import) -> Extern {
    let function = import.function;
    match (&import.ty.params[..], &import.ty.results[..]) {
        // What guests call while they compute.
        ([ValueType::I32, ValueType::I32, ValueType::I32], [ValueType::I32]) => {
            let serve = move |env: FunctionEnvMut<'_, State>, a: i32, b: i32, c: i32| {
                let result = State::serve(env, function, [a, b, c].map(Value::I32));
                result.as_i32().unwrap_or(code::INTERNAL)
            };
            Function::new_typed_with_env(store, env, serve).into()
        }
        ([ValueType::I32], [ValueType::I64]) => {
            let serve = move |env: FunctionEnvMut<'_, State>, a: i32| {
                let result = State::serve(env, function, [Value::I32(a)]);
                result.as_i64().unwrap_or(code::INTERNAL.into())
            };
            Function::new_typed_with_env(store, env, serve).into()
        }
        _ => define_by_values(store, env, import),
    }
}

fn define_by_values(store: &mut Store, env: &FunctionEnv<State>, import: &Import) -> Extern {
    let convert = |types: &[ValueType]| types.iter().map(|ty| to_type(*ty)).collect::<Vec<_>>();
    let ty = FunctionType::new(convert(&import.ty.params), convert(&import.ty.results));
    let function = import.function;
    let serve = move |env: FunctionEnvMut<'_, State>, params: &[wasmer::Value]| {
        Ok(vec![to_engine(State::serve(env, function, params.iter().map(from_engine)))])
    };
    Function::new_with_env(store, env, ty, serve).into()
}

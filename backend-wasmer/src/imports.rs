//! What a guest imports, as Wasmer has it. Functions are typed where guests call them while they
//! compute, since a call by values allocates.

use std::sync::Arc;

use polychord_runtime_api::spi::{
    GlobalType, HostFunction, Item, MemoryType, Stopped, with_values,
};
use polychord_runtime_api::{Result, Value, ValueType};
use wasmer::{
    Extern, Function, FunctionEnv, FunctionEnvMut, FunctionType, Global, Memory, Pages,
    RuntimeError, Store,
};

use crate::error;
use crate::live::{Live, Shared};
use crate::values::{from_engine, to_engine, to_type};

/// The state that functions of the host find.
pub(crate) struct State(pub(crate) Arc<Shared>);

impl State {
    /// Serves a call of a guest.
    fn serve(
        mut env: FunctionEnvMut<'_, Self>,
        function: &HostFunction,
        args: &[Value],
        results: &mut [Value],
    ) -> Result<(), Stopped> {
        let (Self(shared), store) = env.data_and_store_mut();
        let shared: &Shared = shared;
        function.call(&shared.host, &mut Live { store, shared }, args, results)
    }
}

/// Something that a guest imports.
pub(crate) fn define(store: &mut Store, env: &FunctionEnv<State>, item: &Item) -> Result<Extern> {
    match item {
        Item::Function(function) => Ok(function_of(store, env, function).into()),
        Item::Memory(ty) => memory(store, *ty).map(Extern::from),
        Item::Global(ty, value) => Ok(global(store, *ty, *value).into()),
        other => Err(error::other(format!("it imports {other:?}"))),
    }
}

fn memory(store: &mut Store, ty: MemoryType) -> Result<Memory> {
    let pages = |pages: u64| Pages(u32::try_from(pages).unwrap_or(u32::MAX).min(1 << 16));
    let ty = wasmer::MemoryType::new(pages(ty.min_pages), ty.max_pages.map(pages), false);
    Memory::new(store, ty).map_err(error::other)
}

fn global(store: &mut Store, ty: GlobalType, value: Value) -> Global {
    let value = to_engine(value);
    if ty.mutable { Global::new_mut(store, value) } else { Global::new(store, value) }
}

fn function_of(store: &mut Store, env: &FunctionEnv<State>, function: &HostFunction) -> Function {
    let (params, results) = (&function.ty().params, &function.ty().results);
    let function = function.clone();
    match (&params[..], &results[..]) {
        // What guests call while they compute.
        ([ValueType::I32, ValueType::I32, ValueType::I32], [ValueType::I32]) => {
            let serve = move |env: FunctionEnvMut<'_, State>, a: i32, b: i32, c: i32| {
                let mut results = [Value::I32(0)];
                State::serve(env, &function, &[a, b, c].map(Value::I32), &mut results)?;
                Ok::<_, Stopped>(results[0].as_i32().unwrap_or(0))
            };
            Function::new_typed_with_env(store, env, serve)
        }
        ([ValueType::I32], [ValueType::I64]) => {
            let serve = move |env: FunctionEnvMut<'_, State>, a: i32| {
                let mut results = [Value::I64(0)];
                State::serve(env, &function, &[Value::I32(a)], &mut results)?;
                Ok::<_, Stopped>(results[0].as_i64().unwrap_or(0))
            };
            Function::new_typed_with_env(store, env, serve)
        }
        _ => by_values(store, env, function),
    }
}

fn by_values(store: &mut Store, env: &FunctionEnv<State>, function: HostFunction) -> Function {
    let convert = |types: &[ValueType]| types.iter().map(|ty| to_type(*ty)).collect::<Vec<_>>();
    let ty = function.ty();
    let ty = FunctionType::new(convert(&ty.params), convert(&ty.results));
    let serve = move |env: FunctionEnvMut<'_, State>, params: &[wasmer::Value]| {
        let count = function.ty().results.len();
        with_values(params.len() + count, |values| {
            let (args, results) = values.split_at_mut(params.len());
            for (arg, param) in args.iter_mut().zip(params) {
                *arg = from_engine(param);
            }
            let done = State::serve(env, &function, args, results);
            done.map_err(|stopped| RuntimeError::user(Box::new(stopped)))?;
            Ok(results.iter().map(|result| to_engine(*result)).collect())
        })
    };
    Function::new_with_env(store, env, ty, serve)
}

//! What a guest imports, as Wasmer has it.

use std::sync::Arc;

use polychord_runtime_api::spi::{GlobalType, HostFunction, Item, MemoryType, with_values};
use polychord_runtime_api::{Result, Value, ValueType};
use wasmer::{
    Extern, Function, FunctionEnv, FunctionEnvMut, FunctionType, Global, Memory, Pages,
    RuntimeError, Store,
};

use crate::live::{Live, Shared};
use crate::values::{from_engine, to_engine, to_type};
use crate::{error, typed};

/// Something that a guest imports.
pub(crate) fn define(store: &mut Store, shared: &Arc<Shared>, item: &Item) -> Result<Extern> {
    match item {
        Item::Function(function) => {
            // What functions have in common is in each, which is faster to reach.
            let env = FunctionEnv::new(store, ());
            let typed = typed::define(store, &env, shared, function);
            Ok(typed.unwrap_or_else(|| by_values(store, &env, shared, function)).into())
        }
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

fn by_values(
    store: &mut Store,
    env: &FunctionEnv<()>,
    shared: &Arc<Shared>,
    function: &HostFunction,
) -> Function {
    let convert = |types: &[ValueType]| types.iter().map(|ty| to_type(*ty)).collect::<Vec<_>>();
    let (function, shared) = (function.clone(), shared.clone());
    let ty = function.ty();
    let ty = FunctionType::new(convert(&ty.params), convert(&ty.results));
    let serve = move |store: FunctionEnvMut<'_, ()>, params: &[wasmer::Value]| {
        let count = function.ty().results.len();
        with_values(params.len() + count, |values| {
            let (args, results) = values.split_at_mut(params.len());
            for (arg, param) in args.iter_mut().zip(params) {
                *arg = from_engine(param);
            }
            let mut guest = Live { store, shared: &*shared };
            let done = function.call(&shared.host, &mut guest, args, results);
            done.map_err(|stopped| RuntimeError::user(Box::new(stopped)))?;
            Ok(results.iter().map(|result| to_engine(*result)).collect())
        })
    };
    Function::new_with_env(store, env, ty, serve)
}

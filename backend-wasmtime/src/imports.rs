//! What a guest imports, as Wasmtime has it.
#![allow(unsafe_code)]

use std::mem::MaybeUninit;

use polychord_runtime_api::spi::{GlobalType, HostFunction, Item, MemoryType, with_values};
use polychord_runtime_api::{AddressType, Result, Value, ValueType};
use wasmtime::{Caller, Extern, Func, FuncType, Global, Memory, Mutability, Store, ValRaw};

use crate::error;
use crate::live::Live;
use crate::memory::State;
use crate::values::{from_raw, to_engine, to_raw, to_type};

/// Something that a guest imports.
pub(crate) fn define(store: &mut Store<State>, item: &Item) -> Result<Extern> {
    match item {
        Item::Function(function) => Ok(function_of(store, function).into()),
        Item::Memory(ty) => memory(store, *ty).map(Extern::from),
        Item::Global(ty, value) => global(store, *ty, *value).map(Extern::from),
        other => Err(error::unknown(other)),
    }
}

fn memory(store: &mut Store<State>, ty: MemoryType) -> Result<Memory> {
    let failed = |error| error::instantiate(&error);
    let ty = match ty.address {
        AddressType::I64 => wasmtime::MemoryType::new64(ty.min_pages, ty.max_pages),
        AddressType::I32 => {
            let pages = |pages: u64| u32::try_from(pages).unwrap_or(u32::MAX).min(1 << 16);
            wasmtime::MemoryType::new(pages(ty.min_pages), ty.max_pages.map(pages))
        }
    };
    Memory::new(store, ty).map_err(failed)
}

fn global(store: &mut Store<State>, ty: GlobalType, value: Value) -> Result<Global> {
    let mutability = if ty.mutable { Mutability::Var } else { Mutability::Const };
    let ty = wasmtime::GlobalType::new(to_type(ty.ty), mutability);
    Global::new(store, ty, to_engine(value)).map_err(|error| error::instantiate(&error))
}

/// A function, which reads and writes its values as Wasmtime has them in memory: that costs less
/// than half of what a function of `Val`s does.
fn function_of(store: &mut Store<State>, function: &HostFunction) -> Func {
    let convert = |types: &[ValueType]| types.iter().map(|ty| to_type(*ty)).collect::<Vec<_>>();
    let ty = function.ty();
    let ty = FuncType::new(store.engine(), convert(&ty.params), convert(&ty.results));
    let function = function.clone();
    let serve = move |caller: Caller<'_, State>, raw: &mut [MaybeUninit<ValRaw>]| {
        let ty = function.ty();
        let count = ty.params.len();
        with_values(count + ty.results.len(), |values| {
            let (args, results) = values.split_at_mut(count);
            for ((arg, raw), ty) in args.iter_mut().zip(&*raw).zip(&ty.params) {
                // SAFETY: Wasmtime has stored as many arguments as the type of the function has
                // parameters, each of its type.
                *arg = from_raw(unsafe { raw.assume_init() }, *ty);
            }
            let host = caller.data().host.clone();
            function.call(&host, &mut Live(caller), args, results)?;
            for ((result, raw), ty) in results.iter().zip(raw).zip(&ty.results) {
                raw.write(to_raw(*result, *ty));
            }
            Ok(())
        })
    };
    // SAFETY: `serve` reads the arguments by the types of `ty`, and writes a result of its type for
    // each, in the places that Wasmtime has for them.
    unsafe { Func::new_unchecked(store, ty, serve) }
}

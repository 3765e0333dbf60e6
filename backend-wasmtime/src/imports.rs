//! What a guest imports, as Wasmtime has it.
#![allow(unsafe_code)]

use std::mem::MaybeUninit;
use std::slice;
use std::sync::Arc;

use polychord_runtime_api::spi::{GlobalType, Host, HostFunction, Item, MemoryType, Slot};
use polychord_runtime_api::{AddressType, Result, Value, ValueType};
use wasmtime::{Caller, Extern, Func, FuncType, Global, Memory, Mutability, Store, ValRaw};

use crate::error;
use crate::live::Live;
use crate::memory::State;
use crate::values::{to_engine, to_type};

/// Something that a guest imports.
pub(crate) fn define(store: &mut Store<State>, host: &Arc<Host>, item: &Item) -> Result<Extern> {
    match item {
        Item::Function(function) => Ok(function_of(store, function, host).into()),
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

/// A function, whose arguments and results stay where compiled code has them: no value is made.
fn function_of(store: &mut Store<State>, function: &HostFunction, host: &Arc<Host>) -> Func {
    let convert = |types: &[ValueType]| types.iter().map(|ty| to_type(*ty)).collect::<Vec<_>>();
    let ty = function.ty();
    let ty = FuncType::new(store.engine(), convert(&ty.params), convert(&ty.results));
    let (function, host) = (function.clone(), host.clone());
    let serve = move |caller: Caller<'_, State>, raw: &mut [MaybeUninit<ValRaw>]| {
        let slots = slots(raw);
        // SAFETY: Wasmtime has stored as many arguments as the type of the function has
        // parameters, each of its type, and there is room for all results.
        let done = unsafe { function.call_slots(&host, &mut Live(caller), slots) };
        done.map_err(wasmtime::Error::from)
    };
    // SAFETY: `call_slots` reads the arguments by the types of `ty`, and stores a result of its type
    // for each, in the places that Wasmtime has for them.
    unsafe { Func::new_unchecked(store, ty, serve) }
}

/// The places of arguments and results, as the host knows them.
fn slots(raw: &mut [MaybeUninit<ValRaw>]) -> &mut [Slot] {
    const {
        assert!(size_of::<Slot>() == size_of::<ValRaw>());
        assert!(align_of::<ValRaw>().is_multiple_of(align_of::<Slot>()));
    }
    // SAFETY: both are as large, which is checked above, and any bytes are a slot, also none. Numbers
    // begin at its first byte, least significant one first, in both.
    unsafe { slice::from_raw_parts_mut(raw.as_mut_ptr().cast(), raw.len()) }
}

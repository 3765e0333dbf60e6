//! The bytes of a Wasmer memory.
#![allow(unsafe_code)]

use std::ptr::NonNull;
use std::slice;

use polychord_runtime_api::Result;
use polychord_runtime_api::spi::{Host, TimeLimit, Variant};
use wasmer::{AsStoreMut, AsStoreRef, Instance, Memory, MemoryView, Module};

/// The bytes of a memory; empty if there is none.
pub(crate) fn bytes<'a>(memory: Option<&Memory>, store: &'a impl AsStoreRef) -> &'a [u8] {
    let Some(memory) = memory else { return &[] };
    let view = memory.view(store);
    // SAFETY: the pointer and length are those of the memory as it is now. It is not shared
    // with other threads (the engine has the threads proposal off), and neither growing it nor
    // running its guest is possible while `store` is borrowed.
    unsafe { slice::from_raw_parts(view.data_ptr(), len(&view)) }
}

/// The bytes of a memory, mutably; empty if there is none.
pub(crate) fn bytes_mut<'a>(
    memory: Option<&Memory>,
    store: &'a mut impl AsStoreMut,
) -> &'a mut [u8] {
    let Some(memory) = memory else { return &mut [] };
    let view = memory.view(store);
    // SAFETY: as in `bytes`, and the exclusive borrow of `store` excludes every other slice.
    unsafe { slice::from_raw_parts_mut(view.data_ptr(), len(&view)) }
}

fn len(view: &MemoryView<'_>) -> usize {
    usize::try_from(view.data_size()).unwrap_or(0)
}

/// The time limit of an instance of this variant.
pub(crate) fn time_limit(
    variant: &Variant<'_, Module>,
    host: &Host,
    instance: &Instance,
    store: &impl AsStoreRef,
) -> Result<TimeLimit> {
    let memory =
        |name: &str| NonNull::new(instance.exports.get_memory(name).ok()?.view(store).data_ptr());
    // SAFETY: the memory has one page, never grows (that is its maximum), and is mapped until
    // the store is dropped, which the guest's runtime owns together with the limit.
    unsafe { variant.time_limit(host, memory) }
}

//! The memories of a Wasmtime store: their bytes, and the limits on their growth.

use std::ptr::NonNull;
use std::sync::Arc;

use polychord_runtime_api::Result;
use polychord_runtime_api::spi::{Host, TimeLimit, Variant, WholePages};
use wasmtime::{
    AsContextMut, Extern, Instance, Memory, Module, Store, StoreContext, StoreContextMut,
    StoreLimits, StoreLimitsBuilder,
};

use crate::function::Functions;

/// The state of a store, which functions of the host and limits find there.
pub(crate) struct State {
    /// None until the guest is there.
    pub(crate) instance: Option<Instance>,
    /// What the guest imports, in its order.
    pub(crate) imports: Vec<Extern>,
    /// By the index that the host knows them by.
    pub(crate) memories: Vec<Memory>,
    pub(crate) limits: StoreLimits,
    /// What the guest exports.
    pub(crate) functions: Arc<Functions>,
}

/// The bytes of a memory; empty if there is none of this index.
pub(crate) fn bytes<'a>(store: impl Into<StoreContext<'a, State>>, index: usize) -> &'a [u8] {
    let store = store.into();
    match store.data().memories.get(index).copied() {
        Some(memory) => memory.data(store),
        None => &[],
    }
}

/// The bytes of a memory, mutably; empty if there is none of this index.
pub(crate) fn bytes_mut<'a>(
    store: impl Into<StoreContextMut<'a, State>>,
    index: usize,
) -> &'a mut [u8] {
    let store = store.into();
    match store.data().memories.get(index).copied() {
        Some(memory) => memory.data_mut(store),
        None => &mut [],
    }
}

/// The bytes of a guest's memory, of which the pages may be replaced.
#[allow(unsafe_code, reason = "the claim that all mapping rests on")]
pub(crate) fn whole_pages(store: &mut Store<State>, index: usize) -> Option<WholePages<'_>> {
    let bytes = bytes_mut(store, index);
    // SAFETY: all memories of the store are made by engines with the on-demand allocator, which
    // gives each of them a mapping of its own (private, anonymous or, for the size at the start,
    // from an image of the module's data) and unmaps it whole, with the store; with
    // `memory_may_move(false)` it is never moved; growth makes further pages of the mapping
    // readable and writable and touches no others. Memories are not shared with threads or other
    // stores. While the store is borrowed exclusively no guest code runs, and `bytes` is the only
    // reference into the memory.
    let pages = unsafe { WholePages::new(bytes) };
    // Its mappings are made with `MAP_NORESERVE`.
    Some(pages.no_reserve())
}

/// The time limit of an instance of this variant.
#[allow(unsafe_code, reason = "the contract of the flag is met here")]
pub(crate) fn time_limit(
    variant: &Variant<'_, Module>,
    host: &Host,
    instance: Instance,
    mut store: impl AsContextMut,
) -> Result<TimeLimit> {
    let memory = |name: &str| {
        let memory = instance.get_memory(&mut store, name)?;
        NonNull::new(memory.data_ptr(&store))
    };
    // SAFETY: the memory has one page, never grows (that is its maximum), and is mapped until
    // the store is dropped, which the guest's runtime owns together with the limit.
    unsafe { variant.time_limit(host, memory) }
}

/// Limits for the growth that guests ask for, of each memory and of each table.
pub(crate) fn limits(memory_bytes: u64, table_elements: u64) -> StoreLimits {
    StoreLimitsBuilder::new()
        .memory_size(usize::try_from(memory_bytes).unwrap_or(usize::MAX))
        .table_elements(usize::try_from(table_elements).unwrap_or(usize::MAX))
        .instances(1)
        .build()
}

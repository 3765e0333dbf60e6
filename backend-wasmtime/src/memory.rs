use polychord_runtime_api::WholePages;
use wasmtime::{Store, StoreLimits, StoreLimitsBuilder};

use crate::runtime::{State, bytes_mut};

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

/// Most elements of a table: far more than a compiler emits, far less than a machine has.
const TABLE_ELEMENTS: usize = 1 << 20;

/// Limits for the growth that guests ask for.
pub(crate) fn limits(memory_bytes: u64) -> StoreLimits {
    StoreLimitsBuilder::new()
        .memory_size(usize::try_from(memory_bytes).unwrap_or(usize::MAX))
        .table_elements(TABLE_ELEMENTS)
        .instances(1)
        .build()
}

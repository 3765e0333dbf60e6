use polychord_runtime_api::Mapping;
use wasmtime::{StoreLimits, StoreLimitsBuilder};

/// Pages of a Wasmtime memory can be replaced by mappings.
#[allow(unsafe_code, reason = "the claim that all mapping rests on")]
// SAFETY: the engines are configured with the on-demand allocator, which gives every linear
// memory a mapping of its own (private, anonymous or from an image of the module's data) and
// unmaps it whole; with `memory_may_move(false)` it is never moved; and accessible pages are
// readable and writable.
pub(crate) const MAPPING: Mapping = unsafe { Mapping::whole_pages() };

/// Limits for the growth that guests ask for, of each memory and of each table.
pub(crate) fn limits(memory_bytes: u64, table_elements: u64) -> StoreLimits {
    StoreLimitsBuilder::new()
        .memory_size(usize::try_from(memory_bytes).unwrap_or(usize::MAX))
        .table_elements(usize::try_from(table_elements).unwrap_or(usize::MAX))
        .instances(1)
        .build()
}

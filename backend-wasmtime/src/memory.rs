use polychord_runtime_api::Mapping;
use wasmtime::{StoreLimits, StoreLimitsBuilder};

/// Pages of a Wasmtime memory can be replaced by mappings.
#[allow(unsafe_code, reason = "the claim that all mapping rests on")]
// SAFETY: the engines are configured with the on-demand allocator, which gives every linear
// memory a mapping of its own (private, anonymous or from an image of the module's data) and
// unmaps it whole; with `memory_may_move(false)` it is never moved; and accessible pages are
// readable and writable.
pub(crate) const MAPPING: Mapping = unsafe { Mapping::whole_pages() };

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

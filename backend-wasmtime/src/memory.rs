use std::ptr::NonNull;
use std::time::Duration;

use polychord_runtime_api::abi::PAGE;
use polychord_runtime_api::{Error, Mapping, Result, TimeLimit};
use wasmtime::{AsContextMut, Instance, StoreLimits, StoreLimitsBuilder};

use crate::NAME;

/// Pages of a Wasmtime memory can be replaced by mappings.
#[allow(unsafe_code, reason = "the claim that all mapping rests on")]
// SAFETY: the engines are configured with the on-demand allocator, which gives every linear
// memory a mapping of its own (private, anonymous or from an image of the module's data) and
// unmaps it whole; with `memory_may_move(false)` it is never moved; and accessible pages are
// readable and writable.
pub(crate) const MAPPING: Mapping = unsafe { Mapping::whole_pages() };

/// Most elements of a table: far more than a compiler emits, far less than a machine has.
const TABLE_ELEMENTS: usize = 1 << 20;

/// The time limit of a guest whose code looks at a flag in the memory that is exported by this
/// name.
#[allow(unsafe_code, reason = "the contract of the flag is met here")]
pub(crate) fn time_limit(
    limit: Duration,
    instance: Instance,
    memory: &str,
    mut store: impl AsContextMut,
) -> Result<TimeLimit> {
    let memory = instance.get_memory(&mut store, memory);
    let base = memory.and_then(|memory| NonNull::new(memory.data_ptr(&store)));
    let base = base.ok_or_else(|| Error::Instantiate {
        engine: NAME,
        reason: "it has not the memory of one page that its time limit needs".to_owned(),
    })?;
    // SAFETY: the memory has one page, never grows (that is its maximum), and is mapped until
    // the store is dropped, which the guest's runtime owns together with the limit.
    Ok(unsafe { TimeLimit::new(limit, base) })
}

/// Limits for the growth that guests ask for.
pub(crate) fn limits(memory_bytes: u64) -> StoreLimits {
    StoreLimitsBuilder::new()
        // Guests with a time limit have a page for its flag.
        .memory_size(usize::try_from(memory_bytes.max(PAGE)).unwrap_or(usize::MAX))
        .table_elements(TABLE_ELEMENTS)
        .instances(1)
        .build()
}

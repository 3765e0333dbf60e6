//! Names of the host imports in module [`MODULE`](crate::MODULE).
//!
//! Signatures are those of a wasm32 guest; where they say `ptr`, `max`, `len`, `chunk` or
//! `total`, a wasm64 guest has `i64` in place of `i32`. Results are the same for both.

/// `() -> i32`: 1 if a 64-bit memory stands behind these imports, else 0.
pub const IS_ENABLED: &str = "memory64_is_enabled";
/// `(layer: i32, ptr: i32, max: i32) -> i32`: copies a whole layer to `ptr`.
/// Returns the bytes copied, or a [`code`](crate::code).
pub const LOAD_LAYER: &str = "memory64_load_layer";
/// `(offset: i64, ptr: i32, len: i32) -> i32`: copies from the 64-bit memory to the guest.
/// Returns the bytes copied, or a [`code`](crate::code).
pub const READ: &str = "memory64_read";
/// `(offset: i64, ptr: i32, len: i32) -> i32`: copies from the guest to the 64-bit memory.
/// Returns the bytes copied, or a [`code`](crate::code).
pub const WRITE: &str = "memory64_write";
/// `(layer: i32) -> i64`: the address of the layer's first byte in the guest's own memory,
/// after loading it if need be, or a [`code`](crate::code). In a guest that exports several
/// 32-bit memories, bits 32 and up are the index of the memory: 0 for `memory`, and from 1 on
/// for the others in the module's order.
/// It stays valid until the guest returns to the host.
///
/// A layer that is not loaded is *copied*, whatever its source, and the time counts against the
/// guest's limit: pages of a file are mapped only while no guest code runs. A host that wants a
/// layer mapped loads it before the call. It is not mapped of its own accord between calls, since
/// the place of a layer that is not loaded belongs to the host, which may have written there.
pub const MAP_LAYER: &str = "memory64_map_layer";
/// `(layer: i32) -> i64`: the length of the layer in bytes, or a [`code`](crate::code). Brings nothing in.
pub const LAYER_BYTES: &str = "memory64_layer_bytes";
/// `(layer: i32) -> i32`: a hint that the layer will be needed soon. Returns 0 or a
/// [`code`](crate::code).
pub const PREFETCH: &str = "memory64_prefetch";
/// `(layer: i32) -> i32`: a hint that the layer is not needed for now. Returns 0 or a
/// [`code`](crate::code).
pub const RELEASE: &str = "memory64_release";
/// `() -> i64`: four saturating 16-bit counters, [`Stats::packed`](crate::Stats::packed).
pub const STATS: &str = "memory64_stats";
/// `(ptr: i32, len: i32) -> i32`: fills a [`Stats`](crate::Stats). Returns its size in
/// bytes, or a [`code`](crate::code).
pub const STATS_INTO: &str = "memory64_stats_into";
/// `(ptr: i32, chunk: i32, total: i32) -> i32`: waits for all ranks, and exchanges what each has
/// computed. Rank `r` brings bytes `r * chunk..(r + 1) * chunk` of the `total` at `ptr`, fewer
/// where `total` ends before that, and gets all others. `chunk` and `total` are the same on all ranks, with
/// `chunk <= total <= ranks * chunk`; a guest that is alone is all ranks, and nothing moves.
/// Returns 0 or a [`code`](crate::code); once a gather is refused, all of all ranks are.
pub const ALL_GATHER: &str = "all_gather";

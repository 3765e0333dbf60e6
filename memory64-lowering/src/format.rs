//! Names and sizes that hosts and lowered modules agree on.

/// The custom section of a lowered module that has its [`Layout`](crate::Layout).
pub const SECTION: &str = "polychord.memory64";

/// The name by which the global is exported that limits a memory, given its index before: a mutable
/// `i64` with the most pages that it may grow to. A lowered module has it if
/// [`Options::limits`](crate::Options::limits) says so; a host sets it before the start function runs,
/// to no more than [`Memory::maximum`](crate::Memory::maximum).
#[must_use]
pub fn limit_name(memory: u32) -> String {
    format!("{SECTION}.limit.{memory}")
}

/// Bytes of a page.
pub(crate) const PAGE: u64 = 1 << 16;

/// The name by which a segment of a memory is imported or exported: the memory's own name for the
/// first, then `name.1`, `name.2`...
#[must_use]
pub fn segment_name(memory: &str, segment: u32) -> String {
    match segment {
        0 => memory.to_owned(),
        segment => format!("{memory}.{segment}"),
    }
}

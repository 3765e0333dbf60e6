//! Names and sizes that hosts and lowered modules agree on.

/// The custom section of a lowered module that has its [`Layout`](crate::Layout).
pub const SECTION: &str = "polychord.memory64";

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

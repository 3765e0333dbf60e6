//! The numbers of memories, and what is known about each.

use serde::Serialize;

use crate::memory::region::Region;
use crate::memory::segment::{Backing, Segment};
use crate::stats::Histogram;

/// Number of a memory in its runtime, in the order of creation.
///
/// ```
/// use polychord_runtime_api::{MemorySpec, Result, Runtime};
///
/// fn zeros(guest: &mut dyn Runtime) -> Result<[u8; 4]> {
///     let memory = guest.create_memory64(&MemorySpec::host(1 << 20))?;
///     let mut bytes = [1; 4];
///     guest.read_memory64(memory, 0, &mut bytes)?;
///     Ok(bytes)
/// }
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(transparent)]
pub struct MemoryId(pub u32);

/// Statistics of one memory made by `create_memory64`.
///
/// ```
/// use polychord_runtime_api::Runtime;
///
/// fn show(guest: &dyn Runtime) {
///     for memory in guest.memory_stats() {
///         println!("{} bytes, {}: {}", memory.reserved_bytes, memory.backing, memory.reason);
///     }
/// }
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct MemoryStats {
    /// Its number.
    pub id: MemoryId,
    /// How the memory is backed.
    pub backing: Backing,
    /// Why that backing was chosen.
    pub reason: &'static str,
    /// Bytes of its address space, with what its regions may still grow by.
    pub reserved_bytes: u64,
    /// Bytes of it that are in RAM, by whole pages of the machine, as `/proc/self/pagemap` has
    /// them; none where the system does not tell.
    pub resident_bytes: Option<u64>,
    /// Bytes of it that are in huge pages, as `/proc/self/smaps` has them; none where the system does
    /// not tell. They are asked for where layers are copied.
    pub huge_bytes: Option<u64>,
    /// Bytes of its layers that are pages of a file now.
    pub mapped_bytes: u64,
    /// Layers that were brought in.
    pub loads: u64,
    /// How long each of them took.
    pub load_times: Histogram,
    /// What it is divided into.
    pub regions: Vec<Region>,
    /// Where it is in the guest's linear memories, in the order of its own bytes; none if it
    /// is in the host.
    pub segments: Vec<Segment>,
}

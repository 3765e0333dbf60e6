//! What a pager has done.

use serde::Serialize;

/// Statistics of one pager.
///
/// ```
/// use polychord_runtime_api::PagerStats;
///
/// fn show(stats: &PagerStats) {
///     let used = stats.hits + stats.misses;
///     println!("{} of {used} layers were brought in, {} bytes", stats.misses, stats.bytes_loaded);
/// }
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct PagerStats {
    /// Layers that were in memory when they were needed.
    pub hits: u64,
    /// Layers that had to be brought in.
    pub misses: u64,
    /// Layers that made room for others.
    pub evictions: u64,
    /// Bytes brought in.
    pub bytes_loaded: u64,
    /// Layers that were asked for ahead.
    pub prefetches: u64,
    /// Layers asked for ahead that the system had in its cache of files: to copy them from there costs
    /// what it costs to copy them from elsewhere, so that no thread read them.
    pub prefetch_cached: u64,
    /// Misses that had been asked for ahead.
    pub prefetch_hits: u64,
    /// Bytes that a thread of the host had read for them, so that they were copied from memory.
    pub prefetch_bytes: u64,
    /// Time until missed layers were there, in nanoseconds. Mapped pages are read later, when
    /// the guest touches them.
    pub wait_nanos: u64,
    /// The part of it that was spent waiting for the thread that reads ahead.
    pub prefetch_wait_nanos: u64,
}

/// The sum of what two pagers did.
impl std::ops::Add for PagerStats {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self {
            hits: self.hits + other.hits,
            misses: self.misses + other.misses,
            evictions: self.evictions + other.evictions,
            bytes_loaded: self.bytes_loaded + other.bytes_loaded,
            prefetches: self.prefetches + other.prefetches,
            prefetch_cached: self.prefetch_cached + other.prefetch_cached,
            prefetch_hits: self.prefetch_hits + other.prefetch_hits,
            prefetch_bytes: self.prefetch_bytes + other.prefetch_bytes,
            wait_nanos: self.wait_nanos.saturating_add(other.wait_nanos),
            prefetch_wait_nanos: self.prefetch_wait_nanos.saturating_add(other.prefetch_wait_nanos),
        }
    }
}

//! What a session has done, and what its guests' memories hold.

use polychord_runtime_api::{MemoryStats, PagerStats, Stats};

use crate::stats::profile::Profile;
use crate::stats::touch_report::TouchReport;

/// What a session has done since its start; [`Session::report`](crate::Session::report) gives it.
///
/// With a rank that was given ([`SessionOptions::rank`](crate::SessionOptions::rank)), it counts
/// this rank alone.
///
/// ```no_run
/// # fn run(session: &polychord_session::Session) {
/// let report = session.report();
/// println!("{} bytes of guests", report.totals.guest_bytes);
/// if let Some(paging) = report.paging {
///     println!("{} layers were read again", paging.misses);
/// }
/// # }
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct SessionStats {
    /// Counters of all guests of all ranks together.
    pub totals: Stats,
    /// Bytes of keys, values and states that all guests of all ranks have room for. Those of a block
    /// with a window are as many as the window needs, and a batch more.
    pub cache_bytes: u64,
    /// Bytes of these that show an image, by whole pages: each page is shared with forks, in both directions, until one
    /// side writes to it.
    pub shared_bytes: u64,
    /// Bytes of keys, values and states that were copied when the session was [forked](crate::Session::fork) from
    /// another one.
    pub copied_bytes: u64,
    /// Bytes of the image that its forks find; it is one for all of them, and counts for each.
    pub image_bytes: u64,
    /// Counters of the paging of layers; none if all layers stay.
    pub paging: Option<PagerStats>,
    /// Where the time went, as the first rank saw it.
    pub profile: Profile,
    /// Whether guests touch weights ahead of their use, as the first rank has it.
    pub touch_ahead: TouchReport,
}

/// Memories of one guest of a session; [`Session::memory_stats`](crate::Session::memory_stats)
/// gives them.
///
/// ```no_run
/// # fn run(session: &polychord_session::Session) {
/// for guest in session.memory_stats() {
///     for memory in guest.memories {
///         println!("rank {} guest {}: {} bytes", guest.rank, guest.guest, memory.reserved_bytes);
///     }
/// }
/// # }
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct GuestStats {
    /// The rank that the guest belongs to, from 0.
    pub rank: usize,
    /// Its number in the plan, from 0.
    pub guest: usize,
    /// Its memories, in the order in which they were made.
    pub memories: Vec<MemoryStats>,
}

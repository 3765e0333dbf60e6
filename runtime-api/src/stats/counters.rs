//! Counters of one guest, as its host keeps them.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use serde::Serialize;

/// What a guest's 64-bit memory was used for, since the guest was started.
///
/// ```
/// use polychord_runtime_api::Runtime;
///
/// fn show(guest: &dyn Runtime) {
///     let stats = guest.stats();
///     println!("{} loads of {} bytes in all", stats.loads, stats.bytes_loaded);
/// }
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Stats {
    /// Reads from the 64-bit memory that succeeded, by the guest or the host.
    pub reads: u64,
    /// Writes to the 64-bit memory that succeeded, by the guest or the host.
    pub writes: u64,
    /// Bytes that those reads moved.
    pub bytes_read: u64,
    /// Bytes that those writes moved.
    pub bytes_written: u64,
    /// Layers brought in, by copying or by mapping.
    pub loads: u64,
    /// Layers that were brought in by mapping; a part of `loads`.
    pub maps: u64,
    /// Layers that were copied because a running guest asked for them, by
    /// [`memory64_map_layer`](crate::abi::import::MAP_LAYER), before the host had loaded them; a part
    /// of `loads`. Where it is not 0, [`load_layer`](crate::Runtime::load_layer) or
    /// [`add_layers`](crate::Runtime#method.add_layers) before the call maps what can be mapped; the log
    /// names the layers.
    pub copied_in_calls: u64,
    /// Bytes of all loads.
    pub bytes_loaded: u64,
    /// Time that all loads took, in nanoseconds.
    pub load_nanos: u64,
    /// Layers given back.
    pub releases: u64,
    /// Layers of an [anonymous](crate::Source::anonymous) source that were compressed when they
    /// were given back.
    pub compressions: u64,
    /// Bytes of all of those before they were compressed.
    pub bytes_compressed: u64,
    /// Bytes that they became.
    pub compressed_bytes: u64,
    /// Time that it took, in nanoseconds.
    pub compress_nanos: u64,
    /// Layers that were decompressed when they were brought in.
    pub decompressions: u64,
    /// Time that it took, in nanoseconds; a part of `load_nanos`.
    pub decompress_nanos: u64,
    /// Requests that were refused or failed.
    pub errors: u64,
    /// Layers that are registered now.
    pub layers: u64,
    /// Size of all memories made by `create_memory64`, in bytes.
    pub memory64_bytes: u64,
    /// Size of the guest's linear memory, in bytes.
    pub guest_bytes: u64,
    /// Bytes of it that show images now, by whole pages: other guests share each page until the guest writes to it.
    /// Pages that it has written to count as well.
    pub shared_bytes: u64,
}

impl Stats {
    /// The part that a guest can ask for.
    #[must_use]
    pub const fn to_abi(&self) -> polychord_abi::Stats {
        polychord_abi::Stats {
            reads: self.reads,
            writes: self.writes,
            bytes_read: self.bytes_read,
            bytes_written: self.bytes_written,
            loads: self.loads,
            maps: self.maps,
            bytes_loaded: self.bytes_loaded,
            errors: self.errors,
        }
    }
}

/// The sum of what several guests did.
impl std::iter::Sum for Stats {
    fn sum<I: Iterator<Item = Self>>(all: I) -> Self {
        all.fold(Self::default(), |sum, it| Self {
            reads: sum.reads + it.reads,
            writes: sum.writes + it.writes,
            bytes_read: sum.bytes_read + it.bytes_read,
            bytes_written: sum.bytes_written + it.bytes_written,
            loads: sum.loads + it.loads,
            maps: sum.maps + it.maps,
            copied_in_calls: sum.copied_in_calls + it.copied_in_calls,
            bytes_loaded: sum.bytes_loaded + it.bytes_loaded,
            load_nanos: sum.load_nanos + it.load_nanos,
            releases: sum.releases + it.releases,
            compressions: sum.compressions + it.compressions,
            bytes_compressed: sum.bytes_compressed + it.bytes_compressed,
            compressed_bytes: sum.compressed_bytes + it.compressed_bytes,
            compress_nanos: sum.compress_nanos + it.compress_nanos,
            decompressions: sum.decompressions + it.decompressions,
            decompress_nanos: sum.decompress_nanos + it.decompress_nanos,
            errors: sum.errors + it.errors,
            layers: sum.layers + it.layers,
            memory64_bytes: sum.memory64_bytes + it.memory64_bytes,
            guest_bytes: sum.guest_bytes + it.guest_bytes,
            shared_bytes: sum.shared_bytes + it.shared_bytes,
        })
    }
}

/// The counters behind [`Stats`]: written by one thread, readable by all, without locks.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    reads: AtomicU64,
    writes: AtomicU64,
    bytes_read: AtomicU64,
    bytes_written: AtomicU64,
    loads: AtomicU64,
    maps: AtomicU64,
    copied_in_calls: AtomicU64,
    bytes_loaded: AtomicU64,
    load_nanos: AtomicU64,
    releases: AtomicU64,
    compressions: AtomicU64,
    bytes_compressed: AtomicU64,
    compressed_bytes: AtomicU64,
    compress_nanos: AtomicU64,
    decompressions: AtomicU64,
    decompress_nanos: AtomicU64,
    errors: AtomicU64,
    layers: AtomicU64,
    memory64_bytes: AtomicU64,
}

impl Counters {
    pub(crate) fn read(&self, bytes: u64) {
        self.reads.fetch_add(1, Relaxed);
        self.bytes_read.fetch_add(bytes, Relaxed);
    }

    pub(crate) fn write(&self, bytes: u64) {
        self.writes.fetch_add(1, Relaxed);
        self.bytes_written.fetch_add(bytes, Relaxed);
    }

    pub(crate) fn load(&self, bytes: u64, mapped: bool, took: Duration) {
        self.loads.fetch_add(1, Relaxed);
        self.maps.fetch_add(u64::from(mapped), Relaxed);
        self.bytes_loaded.fetch_add(bytes, Relaxed);
        self.load_nanos.fetch_add(nanos(took), Relaxed);
    }

    /// Records that a load was a copy because the guest had not waited for the host.
    pub(crate) fn copied_in_call(&self) {
        self.copied_in_calls.fetch_add(1, Relaxed);
    }

    /// Records one compression: `before` bytes became `after`.
    pub(crate) fn compression(&self, before: u64, after: u64, took: Duration) {
        self.compressions.fetch_add(1, Relaxed);
        self.bytes_compressed.fetch_add(before, Relaxed);
        self.compressed_bytes.fetch_add(after, Relaxed);
        self.compress_nanos.fetch_add(nanos(took), Relaxed);
    }

    pub(crate) fn decompression(&self, took: Duration) {
        self.decompressions.fetch_add(1, Relaxed);
        self.decompress_nanos.fetch_add(nanos(took), Relaxed);
    }

    pub(crate) fn release(&self) {
        self.releases.fetch_add(1, Relaxed);
    }

    pub(crate) fn error(&self) {
        self.errors.fetch_add(1, Relaxed);
    }

    pub(crate) fn layer(&self) {
        self.layers.fetch_add(1, Relaxed);
    }

    pub(crate) fn layer_gone(&self) {
        self.layers.fetch_sub(1, Relaxed);
    }

    pub(crate) fn memory64(&self, bytes: u64) {
        self.memory64_bytes.fetch_add(bytes, Relaxed);
    }

    pub(crate) fn snapshot(&self) -> Stats {
        Stats {
            reads: self.reads.load(Relaxed),
            writes: self.writes.load(Relaxed),
            bytes_read: self.bytes_read.load(Relaxed),
            bytes_written: self.bytes_written.load(Relaxed),
            loads: self.loads.load(Relaxed),
            maps: self.maps.load(Relaxed),
            copied_in_calls: self.copied_in_calls.load(Relaxed),
            bytes_loaded: self.bytes_loaded.load(Relaxed),
            load_nanos: self.load_nanos.load(Relaxed),
            releases: self.releases.load(Relaxed),
            compressions: self.compressions.load(Relaxed),
            bytes_compressed: self.bytes_compressed.load(Relaxed),
            compressed_bytes: self.compressed_bytes.load(Relaxed),
            compress_nanos: self.compress_nanos.load(Relaxed),
            decompressions: self.decompressions.load(Relaxed),
            decompress_nanos: self.decompress_nanos.load(Relaxed),
            errors: self.errors.load(Relaxed),
            layers: self.layers.load(Relaxed),
            memory64_bytes: self.memory64_bytes.load(Relaxed),
            guest_bytes: 0,
            shared_bytes: 0,
        }
    }
}

fn nanos(took: Duration) -> u64 {
    u64::try_from(took.as_nanos()).unwrap_or(u64::MAX)
}

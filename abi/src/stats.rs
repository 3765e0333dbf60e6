//! Counters that a guest can ask for.

/// Counters of one guest's 64-bit memory, as `memory64_stats_into` writes them.
///
/// All are totals since the guest was started.
///
/// ```
/// use polychord_abi::Stats;
///
/// let stats = Stats { reads: 3, writes: 70_000, errors: 1, ..Stats::default() };
/// // Each of the four counters of `memory64_stats` stops at 65,535.
/// assert_eq!(stats.packed(), 1 << 48 | 0xffff << 16 | 3);
/// assert_eq!(stats.to_le_bytes()[..8], 3_u64.to_le_bytes());
/// ```
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Calls that read from the 64-bit memory and succeeded.
    pub reads: u64,
    /// Calls that wrote to the 64-bit memory and succeeded.
    pub writes: u64,
    /// Bytes that those reads moved.
    pub bytes_read: u64,
    /// Bytes that those writes moved.
    pub bytes_written: u64,
    /// Layers brought in, by copying or by mapping.
    pub loads: u64,
    /// Layers that were mapped, which `loads` counts too.
    pub maps: u64,
    /// Bytes of all loads.
    pub bytes_loaded: u64,
    /// Requests that were refused or failed.
    pub errors: u64,
}

impl Stats {
    /// Size of the structure in bytes.
    pub const SIZE: usize = size_of::<Self>();

    /// The result of `memory64_stats`: from the most significant 16 bits down `errors`,
    /// `loads`, `writes`, `reads`, each saturating at 65,535.
    #[must_use]
    pub const fn packed(&self) -> u64 {
        const fn low16(value: u64) -> u64 {
            if value > 0xffff { 0xffff } else { value }
        }
        low16(self.errors) << 48
            | low16(self.loads) << 32
            | low16(self.writes) << 16
            | low16(self.reads)
    }

    /// The structure as the little-endian bytes that a guest receives.
    #[must_use]
    pub fn to_le_bytes(&self) -> [u8; Self::SIZE] {
        let fields = [
            self.reads,
            self.writes,
            self.bytes_read,
            self.bytes_written,
            self.loads,
            self.maps,
            self.bytes_loaded,
            self.errors,
        ];
        let mut bytes = [0; Self::SIZE];
        for (slot, field) in bytes.chunks_exact_mut(8).zip(fields) {
            slot.copy_from_slice(&field.to_le_bytes());
        }
        bytes
    }
}

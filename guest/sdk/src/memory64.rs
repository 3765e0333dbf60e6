//! The 64-bit memory behind the guest's imports: one space of addresses for all memories that the
//! host made, each beginning where the one before it ends.
#![allow(unsafe_code)]

pub use polychord_abi::Stats;

use crate::error::count;
use crate::{Call, Error, imports};

/// Four counters of [`Stats`], each as far as 16 bits reach.
///
/// ```
/// let before = polychord_guest::memory64::counters();
/// // ...
/// let refused = polychord_guest::memory64::counters().errors - before.errors;
/// # assert_eq!(refused, 0);
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Counters {
    /// Calls that read from the 64-bit memory and succeeded.
    pub reads: u16,
    /// Calls that wrote to it and succeeded.
    pub writes: u16,
    /// Layers brought in, by copying or by mapping.
    pub loads: u16,
    /// Requests that were refused or failed.
    pub errors: u16,
}

/// Whether the host made a 64-bit memory for this guest.
#[must_use]
pub fn is_enabled() -> bool {
    // SAFETY: it touches no memory of the guest.
    unsafe { imports::memory64_is_enabled() == 1 }
}

/// Fills a buffer from the 64-bit memory, and returns its length in bytes.
///
/// ```
/// use polychord_guest::{Error, memory64};
///
/// fn word(offset: u64) -> Result<u32, Error> {
///     let mut bytes = [0; 4];
///     memory64::read(offset, &mut bytes)?;
///     Ok(u32::from_le_bytes(bytes))
/// }
/// # assert_eq!(word(0), Err(Error::NotEnabled));
/// ```
///
/// # Errors
///
/// [`Error::NotEnabled`] if there is none, and [`Error::InvalidRange`].
pub fn read(offset: u64, to: &mut [u8]) -> Result<usize, Error> {
    // SAFETY: the host writes to the buffer alone, which is borrowed.
    count(unsafe { imports::memory64_read(offset.cast_signed(), to.as_mut_ptr(), to.len()) })
}

/// Copies bytes to the 64-bit memory, and returns their number.
///
/// That changes layers, if they lie there; so nothing may be mapped meanwhile.
///
/// ```
/// use polychord_guest::{Call, Error, memory64};
///
/// fn put(call: &mut Call, offset: u64, value: f64) -> Result<usize, Error> {
///     memory64::write(call, offset, &value.to_le_bytes())
/// }
/// # assert_eq!(polychord_guest::call(|call| put(call, 0, 1.0)), Err(Error::NotEnabled));
/// ```
///
/// # Errors
///
/// [`Error::InUse`] in an inner call, [`Error::NotEnabled`] if there is none, and
/// [`Error::InvalidRange`].
pub fn write(call: &mut Call, offset: u64, from: &[u8]) -> Result<usize, Error> {
    call.nothing_is_mapped()?;
    // SAFETY: the host reads the buffer, and writes to a memory in which there are no objects, and to
    // which no reference leads, as was just checked.
    count(unsafe { imports::memory64_write(offset.cast_signed(), from.as_ptr(), from.len()) })
}

/// What the memories were used for, since the guest was started.
///
/// ```
/// use polychord_guest::{Error, memory64};
///
/// let copied = memory64::stats().map(|stats| stats.loads - stats.maps);
/// # assert_eq!(copied, Err(Error::NotEnabled));
/// ```
///
/// # Errors
///
/// [`Error::Internal`] if the host has other statistics.
pub fn stats() -> Result<Stats, Error> {
    let mut stats = Stats::default();
    // SAFETY: the host writes to the structure alone, of which all bytes are values.
    let written = count(unsafe { imports::memory64_stats_into(&raw mut stats, Stats::SIZE) })?;
    if written == Stats::SIZE { Ok(stats) } else { Err(Error::Internal) }
}

/// The most important of these statistics, in one short call that never fails.
#[must_use]
pub fn counters() -> Counters {
    // SAFETY: it touches no memory of the guest.
    let packed = unsafe { imports::memory64_stats() };
    if cfg!(not(target_family = "wasm")) {
        return Counters::default();
    }
    let bytes = packed.to_le_bytes();
    let counter = |index: usize| u16::from_le_bytes([bytes[2 * index], bytes[2 * index + 1]]);
    Counters { reads: counter(0), writes: counter(1), loads: counter(2), errors: counter(3) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layer;

    /// As everywhere where there is no host.
    #[test]
    fn without_a_host_everything_is_refused() {
        assert!(!is_enabled());
        crate::call(|call| {
            let refused = Err(Error::NotEnabled);
            assert_eq!(layer::load(0, &mut []), refused);
            assert_eq!(write(call, 0, &[1]), refused);
            assert_eq!(layer::prefetch(0), Err(Error::NotEnabled));
            assert_eq!(layer::release(call, 0), Err(Error::NotEnabled));
            assert_eq!(layer::map(call, 0).map(layer::Mapped::bytes), Err(Error::NotEnabled));
            assert_eq!(crate::all_gather(&mut [0.0_f32], 1), Err(Error::NotEnabled));
        });
    }

    #[test]
    fn an_inner_call_changes_nothing() {
        crate::call(|outer| {
            crate::call(|inner| {
                assert_eq!(write(inner, 0, &[1]), Err(Error::InUse));
                assert_eq!(layer::release(inner, 0), Err(Error::InUse));
            });
            assert_eq!(write(outer, 0, &[1]), Err(Error::NotEnabled));
        });
    }
}

//! Bytes that are somewhere else, and come range by range.

use std::fmt;
use std::io;
use std::sync::atomic::AtomicBool;

/// Bytes that a [`Source`](crate::Source) has no file for, such as those of a file on a server: see
/// [`Source::from_ranges`](crate::Source::from_ranges).
///
/// Each reading either has the bytes that the length and all readings before were about, or is an error: what
/// changes meanwhile has to be noticed here.
///
/// ```
/// use std::io;
///
/// use polychord_runtime_api::Source;
/// use polychord_runtime_api::layers::ByteRanges;
///
/// /// A megabyte of ones.
/// #[derive(Debug)]
/// struct Ones;
///
/// impl ByteRanges for Ones {
///     fn name(&self) -> &str {
///         "ones"
///     }
///     fn len(&self) -> u64 {
///         1 << 20
///     }
///     fn read_at(&self, _offset: u64, out: &mut [u8]) -> io::Result<()> {
///         out.fill(1);
///         Ok(())
///     }
/// }
///
/// assert_eq!(Source::from_ranges(Ones).len(), 1 << 20);
/// ```
#[allow(clippy::len_without_is_empty, reason = "a source has that")]
pub trait ByteRanges: fmt::Debug + Send + Sync {
    /// What they are, for errors: a path or an address.
    fn name(&self) -> &str;

    /// How many there are. Always the same.
    fn len(&self) -> u64;

    /// Fills `out` from `offset` on. There are as many bytes, which was checked before.
    ///
    /// # Errors
    ///
    /// Any error that says what to do about it; `out` has no meaning then.
    fn read_at(&self, offset: u64, out: &mut [u8]) -> io::Result<()>;

    /// Brings bytes closer that will be read soon, until it should stop. May take as long as reading them,
    /// and nothing is lost if it does not succeed.
    fn read_ahead(&self, _offset: u64, _len: u64, _stop: &AtomicBool) {}
}

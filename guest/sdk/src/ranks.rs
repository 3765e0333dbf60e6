//! What guests that compute together exchange.
#![allow(unsafe_code)]

use crate::error::done;
use crate::{Error, Plain, imports};

/// Exchanges values with all ranks, and waits for them.
///
/// Of `values`, each rank has computed `chunk`, those from its number times `chunk` on, and the last
/// ones fewer. All have all of them afterwards. Both lengths are the same on all ranks. A guest that
/// is alone is all ranks, and nothing moves.
///
/// ```
/// use polychord_guest::{Error, all_gather};
///
/// fn sums(rank: usize, ranks: usize, sums: &mut [f32]) -> Result<(), Error> {
///     let chunk = sums.len().div_ceil(ranks);
///     sums.chunks_mut(chunk).nth(rank).unwrap_or_default().fill(1.0); // the own part
///     all_gather(sums, chunk)
/// }
/// # assert_eq!(sums(0, 2, &mut [0.0; 8]), Err(Error::NotEnabled));
/// ```
///
/// # Errors
///
/// [`Error::InvalidRange`] if the chunks of all ranks are not as many as there are values, or ranks
/// do not agree; then all ranks are refused from then on.
#[inline]
pub fn all_gather<T: Plain>(values: &mut [T], chunk: usize) -> Result<(), Error> {
    let chunk = chunk.checked_mul(size_of::<T>()).ok_or(Error::InvalidRange)?;
    let total = size_of_val(values);
    // SAFETY: the host writes to these values alone, which are borrowed, and all bytes are values.
    done(unsafe { imports::all_gather(values.as_mut_ptr().cast(), chunk, total) })
}

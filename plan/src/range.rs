//! How large memories may be, and whether a range lies in one.

pub use polychord_abi::PAGE;

/// Most bytes of a region of a memory: 16 TiB, far beyond any machine.
pub const MAX_BYTES: u64 = 16 << 40;

/// A range that leaves the memory that it should lie in.
///
/// ```
/// use polychord_plan::range::check_range;
///
/// let error = check_range("a read", 5, 4, 8).unwrap_err();
/// assert_eq!((error.offset, error.len, error.size), (5, 4, 8));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{operation}: bytes {offset}..+{len} leave the memory of {size} bytes")]
#[non_exhaustive]
pub struct OutOfRange {
    /// What was attempted.
    pub operation: &'static str,
    /// Start of the range in bytes.
    pub offset: u64,
    /// Its length in bytes.
    pub len: u64,
    /// Size of the memory in bytes.
    pub size: u64,
}

/// Checks that `offset..offset + len` lies in `0..size`, up to the last byte of `u64`.
///
/// # Errors
///
/// [`OutOfRange`] if it does not.
pub fn check_range(
    operation: &'static str,
    offset: u64,
    len: u64,
    size: u64,
) -> Result<(), OutOfRange> {
    match offset.checked_add(len) {
        Some(end) if end <= size => Ok(()),
        _ => Err(OutOfRange { operation, offset, len, size }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_checked_to_the_last_byte() {
        for (offset, len, size, inside) in [
            (0, 0, 0, true),
            (0, 1, 0, false),
            (5, 3, 8, true),
            (5, 4, 8, false),
            (u64::MAX, 0, u64::MAX, true),
            (u64::MAX, 1, u64::MAX, false),
            (1, u64::MAX, u64::MAX, false),
        ] {
            assert_eq!(check_range("a test", offset, len, size).is_ok(), inside, "{offset} {len}");
        }
        let error = check_range("a test", 5, 4, 8).unwrap_err().to_string();
        assert_eq!(error, "a test: bytes 5..+4 leave the memory of 8 bytes");
    }
}

//! Why a host refused.

use core::fmt;

use polychord_abi::code;

/// Why a function of the host, or of this crate, refused.
///
/// ```
/// use polychord_guest::{Error, memory64};
///
/// // There is no host where documentation is tested.
/// let error = memory64::read(0, &mut [0; 4]).unwrap_err();
/// assert_eq!((error, error.code()), (Error::NotEnabled, -1));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Error {
    /// The host made no 64-bit memory for this guest, or none that does what was asked for.
    NotEnabled,
    /// No layer with this number is registered.
    LayerNotFound,
    /// The buffer is smaller than the layer: [`layer::bytes`](crate::layer::bytes) says how long
    /// that is.
    BufferTooSmall,
    /// The range leaves the 64-bit memory, or is longer than one call can copy (2^31 - 1 bytes).
    InvalidRange,
    /// The bytes could not be brought in: a file has become shorter or cannot be read.
    ReadFailed,
    /// A pointer with its length leaves the address space.
    PointerOverflow,
    /// A pointer is null, or leaves the guest's memory.
    PointerOutOfBounds,
    /// The host failed in a way that is not the guest's fault.
    Internal,
    /// A negative number that this version does not know.
    Unknown(i32),
    /// An outer call of the host may use what this one would change.
    InUse,
    /// The layer is not in the memory that pointers are about: another memory of a guest that has
    /// several, or its very first byte, which no pointer reaches.
    OtherMemory,
    /// The bytes are no whole number of such values, or not aligned for them.
    Misaligned,
}

impl Error {
    /// The negative number that stands for it in the ABI, for functions that pass it on. Those of
    /// this crate alone are -101 to -103.
    #[must_use]
    pub const fn code(self) -> i32 {
        match self {
            Self::NotEnabled => code::NOT_ENABLED,
            Self::LayerNotFound => code::LAYER_NOT_FOUND,
            Self::BufferTooSmall => code::BUFFER_TOO_SMALL,
            Self::InvalidRange => code::INVALID_RANGE,
            Self::ReadFailed => code::READ_FAILED,
            Self::PointerOverflow => code::POINTER_OVERFLOW,
            Self::PointerOutOfBounds => code::POINTER_OUT_OF_BOUNDS,
            Self::Internal => code::INTERNAL,
            Self::Unknown(code) => code,
            Self::InUse => -101,
            Self::OtherMemory => -102,
            Self::Misaligned => -103,
        }
    }

    /// The error that a code of the ABI stands for.
    pub(crate) const fn from_code(code: i32) -> Self {
        match code {
            code::NOT_ENABLED => Self::NotEnabled,
            code::LAYER_NOT_FOUND => Self::LayerNotFound,
            code::BUFFER_TOO_SMALL => Self::BufferTooSmall,
            code::INVALID_RANGE => Self::InvalidRange,
            code::READ_FAILED => Self::ReadFailed,
            code::POINTER_OVERFLOW => Self::PointerOverflow,
            code::POINTER_OUT_OF_BOUNDS => Self::PointerOutOfBounds,
            code::INTERNAL => Self::Internal,
            code => Self::Unknown(code),
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NotEnabled => "the host made no 64-bit memory for this guest that could do it",
            Self::LayerNotFound => "no layer with this number is registered",
            Self::BufferTooSmall => "the buffer is smaller than the layer",
            Self::InvalidRange => "the range leaves the 64-bit memory, or is too long for one call",
            Self::ReadFailed => "the bytes could not be read from their source",
            Self::PointerOverflow => "the pointer with its length leaves the address space",
            Self::PointerOutOfBounds => "the pointer is null or leaves the guest's memory",
            Self::Internal => "the host failed",
            Self::Unknown(code) => return write!(f, "the host refused with the code {code}"),
            Self::InUse => "an outer call of the host may use what this one would change",
            Self::OtherMemory => "the layer is not in the memory that pointers are about",
            Self::Misaligned => {
                "the bytes are not aligned for such values, or no whole number of them"
            }
        })
    }
}

impl core::error::Error for Error {}

/// A number of bytes, or the error that a negative number stands for.
pub(crate) fn count(result: i32) -> Result<usize, Error> {
    usize::try_from(result).map_err(|_| Error::from_code(result))
}

/// Nothing, or the error that a negative number stands for.
pub(crate) fn done(result: i32) -> Result<(), Error> {
    count(result).map(|_| ())
}

/// An unsigned number, or the error that a negative number stands for.
pub(crate) fn number(result: i64) -> Result<u64, Error> {
    // Codes are few: what is no `i32` is none.
    u64::try_from(result)
        .map_err(|_| i32::try_from(result).map_or(Error::Internal, Error::from_code))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_stand_for_one_error_each() {
        for code in -12..0 {
            let error = Error::from_code(code);
            assert_eq!((error.code(), count(code)), (code, Err(error)));
            assert_eq!(number(code.into()), Err(error));
            assert_eq!(matches!(error, Error::Unknown(_)), code < -8);
        }
        assert_eq!((count(7), done(0), number(1 << 40)), (Ok(7), Ok(()), Ok(1 << 40)));
        assert_eq!(number(i64::MIN), Err(Error::Internal));
    }
}

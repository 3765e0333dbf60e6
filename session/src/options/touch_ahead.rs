//! Whether guests touch weights ahead of their use.

use std::fmt;
use std::str::FromStr;

/// Whether guests touch weights ahead of their use, in bursts of loads.
///
/// Some processors prefetch little for code that does much with each byte, as products of
/// quantized weights do: single tokens then wait for memory, and touching makes them faster. Others
/// prefetch well, and it makes them slower.
///
/// ```
/// use polychord_session::{SessionOptions, TouchAhead};
///
/// let options = SessionOptions::new().touch_ahead(TouchAhead::Bytes(16 << 10));
/// assert_eq!("auto".parse(), Ok(TouchAhead::Auto));
/// # let _ = options;
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum TouchAhead {
    /// What is found to be faster, by alternating during the first tokens that are decoded. Never
    /// where caches may hold all weights that a token needs.
    #[default]
    Auto,
    /// Never.
    Off,
    /// This many bytes at a time, and at least a row of a matrix.
    Bytes(u32),
}

impl FromStr for TouchAhead {
    type Err = UnknownTouchAhead;

    /// Parses `auto`, `off`, or a number of bytes, of which 0 is `off`.
    fn from_str(text: &str) -> Result<Self, UnknownTouchAhead> {
        match text {
            "auto" => Ok(Self::Auto),
            "off" => Ok(Self::Off),
            _ => match text.parse::<u32>() {
                Ok(0) => Ok(Self::Off),
                Ok(bytes) if i32::try_from(bytes).is_ok() => Ok(Self::Bytes(bytes)),
                _ => Err(UnknownTouchAhead),
            },
        }
    }
}

impl fmt::Display for TouchAhead {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Auto => f.pad("auto"),
            Self::Off => f.pad("off"),
            Self::Bytes(bytes) => bytes.fmt(f),
        }
    }
}

/// A text that does not say how weights are touched ahead.
///
/// ```
/// use polychord_session::{TouchAhead, UnknownTouchAhead};
///
/// assert_eq!("much".parse::<TouchAhead>(), Err(UnknownTouchAhead));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("neither `auto`, nor `off`, nor a number of bytes below 2147483648")]
pub struct UnknownTouchAhead;

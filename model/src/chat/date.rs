//! The date that `strftime_now` tells.

use std::time::SystemTime;

use jiff::fmt::strtime::{self, BrokenDownTime};
use jiff::{Timestamp, Zoned};

use super::limits::{Result, Stop, WIDTH, fail};
use super::platform::HAS_CLOCK;

/// Longest format of a date, in bytes.
const FORMAT: usize = 256;

/// What a template is told.
#[derive(Clone, Copy, Debug)]
pub(super) enum Date {
    /// The time of the rendering, where the computer is.
    Today,
    /// Always the same, in UTC.
    Fixed(SystemTime),
}

impl Date {
    /// The date of the day, where there is a clock.
    pub(super) fn today() -> Option<Self> {
        HAS_CLOCK.then_some(Self::Today)
    }

    /// The date in a format of `strftime`.
    pub(super) fn format(self, format: &str) -> Result<String> {
        if format.len() > FORMAT {
            return Err(Stop::Limit { what: "bytes in the format of a date", limit: FORMAT });
        }
        check_widths(format)?;
        let failed = |error: jiff::Error| Stop::failed(format!("strftime_now: {error}"));
        let time = match self {
            Self::Today => BrokenDownTime::from(&Zoned::now()),
            Self::Fixed(time) => {
                let time = Timestamp::try_from(time).map_err(failed)?;
                return strtime::format(format, time).map_err(failed);
            }
        };
        time.to_string(format).map_err(failed)
    }
}

/// Refuses widths that only fill memory: `%100000d`.
fn check_widths(format: &str) -> Result<()> {
    let mut digits = 0;
    for byte in format.bytes() {
        digits = if byte.is_ascii_digit() { digits + 1 } else { 0 };
        if digits > 4 {
            return fail(format!("strftime_now: a width has more than {WIDTH} characters"));
        }
    }
    Ok(())
}

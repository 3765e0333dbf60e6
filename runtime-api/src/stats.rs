//! Counters and times, of guests and of this process.

mod counters;
mod histogram;
mod usage;

pub(crate) use self::counters::Counters;
pub use self::counters::Stats;
pub use self::histogram::Histogram;
pub use self::usage::PageFaults;
pub(crate) use self::usage::{in_huge_pages, resident};

//! How many threads compute together.

use std::fmt;
use std::str::FromStr;
use std::thread;

use polychord_runtime_api::{Capabilities, Rank, Requirements};

use crate::error::{Error, Result};
use crate::model::Model;

/// How many threads compute a network together.
///
/// Each has guests of its own, computes a part of the rows of every product, and has the cache of
/// its own heads. Mapped weights are the same pages for all ranks; copied ones are there once for
/// each, and a resident budget counts for each.
///
/// ```
/// use polychord_session::{Ranks, SessionOptions};
///
/// let options = SessionOptions::new().ranks(Ranks::Exactly(4));
/// # let _ = options;
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Ranks {
    /// One for each processor of the process, but no more than the network has heads of
    /// keys and values, and one if the engine does not run guests in several threads.
    Auto,
    /// Exactly this many, up to the number of heads.
    Exactly(u32),
}

impl Default for Ranks {
    fn default() -> Self {
        Self::Exactly(1)
    }
}

impl FromStr for Ranks {
    type Err = UnknownRanks;

    /// Parses a number, or `auto`.
    fn from_str(text: &str) -> std::result::Result<Self, UnknownRanks> {
        match text {
            "auto" => Ok(Self::Auto),
            _ => text.parse().map(Self::Exactly).map_err(|_| UnknownRanks),
        }
    }
}

impl fmt::Display for Ranks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Auto => f.pad("auto"),
            Self::Exactly(count) => count.fmt(f),
        }
    }
}

/// A text that is no number of ranks.
///
/// ```
/// use polychord_session::{Ranks, UnknownRanks};
///
/// assert_eq!("many".parse::<Ranks>(), Err(UnknownRanks));
/// assert_eq!("auto".parse::<Ranks>(), Ok(Ranks::Auto));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("neither a number nor `auto`")]
pub struct UnknownRanks;

impl Ranks {
    /// The number for a model on an engine.
    pub(crate) fn of(self, model: &Model, engine: &Capabilities) -> Result<usize> {
        let config = model.config();
        let count = match self {
            Self::Auto if !engine.threads => 1,
            Self::Auto => {
                let processors = thread::available_parallelism().map_or(1, usize::from);
                u32::try_from(processors.min(Rank::MAX)).unwrap_or(u32::MAX).min(config.kv_heads)
            }
            Self::Exactly(count) => count,
        };
        check_ranks(count, model)?;
        if count > 1 {
            Requirements::NONE.threads().check(engine)?;
        }
        Ok(count as usize)
    }
}

/// Checks that a network can be divided among `count` ranks.
pub(super) fn check_ranks(count: u32, model: &Model) -> Result<()> {
    let limit = model.config().heads.min(u32::try_from(Rank::MAX).unwrap_or(u32::MAX));
    if count == 0 || count > limit {
        return Err(Error::Ranks { asked: count, limit });
    }
    Ok(())
}

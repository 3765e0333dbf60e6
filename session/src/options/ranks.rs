//! How many threads compute together.

use std::fmt;
use std::str::FromStr;

use polychord_runtime_api::{Capabilities, Rank, Requirements};

use super::cores;
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
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Ranks {
    /// One for each physical core that the process may use, but no more than the network has heads of
    /// keys and values. One alone where several would need much more memory than one, or more than they
    /// may have: if weights are copied into guests, with
    /// [`Placement::Paged`](crate::Placement::Paged), and with
    /// [`memory_bytes`](crate::SessionOptions::memory_bytes). And one if the engine does not run guests in
    /// several threads, or if the session is a [`rank`](crate::SessionOptions::rank) or a
    /// [`stage`](crate::SessionOptions::stage) among others, which all need the same number.
    #[default]
    Auto,
    /// Exactly this many, up to the number of heads.
    Exactly(u32),
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
    /// The number for a model on an engine; `may_choose` is whether nothing else bounds it.
    pub(crate) fn of(
        self,
        model: &Model,
        engine: &Capabilities,
        may_choose: bool,
    ) -> Result<usize> {
        let config = model.config();
        let shares_weights = model.source().is_mapped() && engine.mapping;
        let count = match self {
            Self::Auto if !(engine.threads && shares_weights && may_choose) => 1,
            Self::Auto => {
                let cores = cores::available().min(Rank::MAX);
                let most = config.kv_heads.min(config.heads).max(1);
                u32::try_from(cores).unwrap_or(u32::MAX).min(most)
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

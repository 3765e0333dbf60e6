//! What a caller decides about a session.

use std::fmt;
use std::str::FromStr;
use std::thread;
use std::time::Duration;

use polychord_model::{Activations, CacheType};
use polychord_runtime_api::plan::{UnknownName, named};
use polychord_runtime_api::{Capabilities, Plan, Policy, Rank, Requirements};

use crate::error::{Error, Result};
use crate::model::Model;

/// How to run a model.
///
/// ```
/// use std::time::Duration;
///
/// use polychord_session::{Placement, Ranks, SessionOptions};
///
/// let options = SessionOptions::new()
///     .context(4096)
///     .memory_bytes(2 << 30)
///     .call_time(Duration::from_secs(10))
///     .placement(Placement::Sharded32 { memories: Some(2) })
///     .ranks(Ranks::Auto);
/// assert_eq!(options.context, Some(4096));
/// ```
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct SessionOptions {
    /// Most tokens of prompt and answer together; by default 4,096 or the model's own context
    /// if that is shorter. Memory is used as the context fills.
    pub context: Option<u32>,
    /// Most tokens that are computed at once; changes speed and memory, never a result.
    pub batch: u32,
    /// Longest time that the guest may take for a stage of one batch; none by default. An
    /// evaluation that takes longer fails, and the session can be used again.
    pub call_time: Option<Duration>,
    /// Most bytes of all linear memories of the session's guests in this process together; none
    /// by default. Weights that are mapped count like others, as address space. A session that
    /// needs more does not start, and its guests cannot grow beyond it later (those of multi32
    /// only as far as it binds each of their memories).
    pub memory_bytes: Option<u64>,
    /// Which guests hold which layers; changes speed and memory, never a result.
    pub placement: Placement,
    /// How weights and cache are cut into memories; changes where bytes lie, never a result.
    pub split: Split,
    /// How activations are multiplied with quantized weights; changes speed and results.
    pub activations: Activations,
    /// How keys and values are stored; changes memory and results.
    pub cache_type: CacheType,
    /// How many threads compute, each with guests of its own; changes speed and memory, never a
    /// result.
    pub ranks: Ranks,
    /// The one rank that this session is, of a group whose other ranks are elsewhere, each with a
    /// session of its own: in other threads, or wherever the group reaches. `ranks` does not count
    /// then.
    ///
    /// All of them need the same model and options, and evaluate the same tokens at the same time.
    /// If one fails all do, until [`Rank::renew`] is called while none of them evaluates. Answers
    /// must not be cancelled or have a deadline, which ranks would see at different times.
    pub rank: Option<Rank>,
    /// Whether attention and feed-forward are timed apart, see [`Phases`](crate::Phases). It
    /// takes two calls of the guest for each block, in place of one for all of them.
    pub profile: bool,
}

impl Default for SessionOptions {
    fn default() -> Self {
        Self {
            context: None,
            batch: 64,
            call_time: None,
            memory_bytes: None,
            placement: Placement::default(),
            split: Split::default(),
            activations: Activations::default(),
            cache_type: CacheType::default(),
            ranks: Ranks::default(),
            rank: None,
            profile: false,
        }
    }
}

impl SessionOptions {
    /// The defaults: one rank, a placement by size, and no limits.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets the most tokens of prompt and answer together.
    #[must_use]
    pub fn context(mut self, tokens: impl Into<Option<u32>>) -> Self {
        self.context = tokens.into();
        self
    }

    /// Sets the most tokens that are computed at once.
    #[must_use]
    pub const fn batch(mut self, tokens: u32) -> Self {
        self.batch = tokens;
        self
    }

    /// Sets the longest time that the guest may take for a stage of one batch.
    #[must_use]
    pub fn call_time(mut self, most: impl Into<Option<Duration>>) -> Self {
        self.call_time = most.into();
        self
    }

    /// Sets the most bytes of all linear memories of the session's guests together.
    #[must_use]
    pub fn memory_bytes(mut self, most: impl Into<Option<u64>>) -> Self {
        self.memory_bytes = most.into();
        self
    }

    /// Sets which guests hold which layers.
    #[must_use]
    pub fn placement(mut self, placement: Placement) -> Self {
        self.placement = placement;
        self
    }

    /// Sets how weights and cache are cut into memories.
    #[must_use]
    pub const fn split(mut self, split: Split) -> Self {
        self.split = split;
        self
    }

    /// Sets how activations are multiplied with quantized weights.
    #[must_use]
    pub const fn activations(mut self, activations: Activations) -> Self {
        self.activations = activations;
        self
    }

    /// Sets how keys and values are stored.
    #[must_use]
    pub const fn cache_type(mut self, cache_type: CacheType) -> Self {
        self.cache_type = cache_type;
        self
    }

    /// Sets how many threads compute, each with guests of its own.
    #[must_use]
    pub const fn ranks(mut self, ranks: Ranks) -> Self {
        self.ranks = ranks;
        self
    }

    /// Sets the one rank that this session is, of a group whose others are elsewhere.
    #[must_use]
    pub fn rank(mut self, rank: impl Into<Option<Rank>>) -> Self {
        self.rank = rank.into();
        self
    }

    /// Times attention and feed-forward apart.
    #[must_use]
    pub const fn profile(mut self) -> Self {
        self.profile = true;
        self
    }

    /// How many ranks of a session are in this process.
    pub(crate) fn ranks_here(&self, model: &Model, engine: &Capabilities) -> Result<usize> {
        let Some(rank) = &self.rank else { return self.ranks.of(model, engine) };
        let count = u32::try_from(rank.count()).unwrap_or(u32::MAX);
        check_ranks(count, model).map(|()| 1)
    }

    /// The context that a session of a model has.
    pub(crate) fn context_of(&self, model: &Model) -> Result<u32> {
        let limit = model.config().context_length;
        match self.context {
            None => Ok(limit.min(DEFAULT_CONTEXT)),
            Some(asked) if asked > 0 && asked <= limit => Ok(asked),
            Some(asked) => Err(Error::Context { asked, limit }),
        }
    }

    /// The batch that a session of a context has: no more than fit.
    pub(crate) fn batch_of(&self, context: u32) -> Result<u32> {
        check_number("batch", self.batch.into(), u32::MAX.into())?;
        Ok(self.batch.min(context))
    }

    /// Checks the numbers that nothing else looks at.
    pub(crate) fn check(&self) -> Result<()> {
        if self.call_time == Some(Duration::ZERO) {
            let most = u64::try_from(Duration::MAX.as_millis()).unwrap_or(u64::MAX);
            return Err(Error::Number { option: "call_time (in ms)", asked: 0, least: 1, most });
        }
        Ok(())
    }
}

/// Context of a session if the options give none.
const DEFAULT_CONTEXT: u32 = 4096;

/// How a model's layers are spread over guests and their memories.
///
/// ```
/// use polychord_session::{Placement, SessionOptions};
///
/// let paged = Placement::Paged { resident_bytes: Some(6 << 30), policy: Default::default() };
/// let options = SessionOptions::new().placement(paged);
/// # let _ = options;
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Placement {
    /// One memory if all fits there; else several, or a window if there is less free memory
    /// than weights.
    #[default]
    Auto,
    /// All layers in one 32-bit memory.
    Resident32,
    /// Contiguous runs of layers in several guests, each with its own 32-bit memory and its
    /// own part of the key-value cache.
    Sharded32 {
        /// How many guests; by default as few as have room.
        memories: Option<usize>,
    },
    /// All layers in several 32-bit memories of one guest, and the cache in one more: for
    /// engines with several memories, and never chosen automatically.
    Multi32,
    /// All layers in one 64-bit memory, of any size: for engines that have such memories, and
    /// never chosen automatically, because 32-bit ones are faster.
    Native64,
    /// Layers are brought in as they are needed, into windows that are smaller than all of them.
    Paged {
        /// Bytes of all windows together; by default three quarters of the free memory, which
        /// ranks that copy their weights share.
        resident_bytes: Option<u64>,
        /// Which layers stay.
        policy: Policy,
    },
    /// By a plan that was made before.
    Planned(Plan),
}

/// The kinds of [`Placement`] that have a name, which [`Placement::from`] makes with the defaults
/// of their options.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum PlacementKind {
    /// [`Placement::Auto`].
    #[default]
    Auto,
    /// [`Placement::Resident32`].
    Resident32,
    /// [`Placement::Sharded32`].
    Sharded32,
    /// [`Placement::Multi32`].
    Multi32,
    /// [`Placement::Native64`].
    Native64,
    /// [`Placement::Paged`].
    Paged,
}

named!(PlacementKind, "placement", {
    Auto = "auto": "By size and free memory",
    Resident32 = "resident32": "One 32-bit memory",
    Sharded32 = "sharded32": "Several guests, each with a run of the layers",
    Multi32 = "multi32": "Several 32-bit memories of one guest, and one for the cache",
    Native64 = "native64": "One 64-bit memory, where the engine has them; slower",
    Paged = "paged": "Layers take turns in a window",
});

impl From<PlacementKind> for Placement {
    fn from(kind: PlacementKind) -> Self {
        match kind {
            PlacementKind::Auto => Self::Auto,
            PlacementKind::Resident32 => Self::Resident32,
            PlacementKind::Sharded32 => Self::Sharded32 { memories: None },
            PlacementKind::Multi32 => Self::Multi32,
            PlacementKind::Native64 => Self::Native64,
            PlacementKind::Paged => Self::Paged { resident_bytes: None, policy: Policy::default() },
        }
    }
}

impl FromStr for Placement {
    type Err = UnknownName;

    /// The placement of this name, with the defaults of its options.
    fn from_str(name: &str) -> std::result::Result<Self, UnknownName> {
        name.parse::<PlacementKind>().map(Self::from)
    }
}

impl fmt::Display for Placement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = match self {
            Self::Auto => PlacementKind::Auto,
            Self::Resident32 => PlacementKind::Resident32,
            Self::Sharded32 { .. } => PlacementKind::Sharded32,
            Self::Multi32 => PlacementKind::Multi32,
            Self::Native64 => PlacementKind::Native64,
            Self::Paged { .. } => PlacementKind::Paged,
            Self::Planned(_) => return f.pad("planned"),
        };
        kind.fmt(f)
    }
}

/// How weights and cache are cut into memories; changes where bytes lie, never a result.
///
/// ```
/// use polychord_session::{SessionOptions, Split};
///
/// let options = SessionOptions::new().split(Split::CacheApart);
/// # let _ = options;
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Split {
    /// Layers of all kinds in one memory of each guest; guests allocate their caches.
    #[default]
    ByLayer,
    /// One guest, with a memory for each kind of tensor (embeddings, attention, feed-forward,
    /// output) and one for the key-value cache.
    ByKind,
    /// Layers of all kinds in one memory of each guest, and its key-value cache in a second one.
    CacheApart,
}

named!(Split, "split", {
    ByLayer = "layer": "One memory for all layers of a guest",
    ByKind = "kind": "A memory for each kind of tensor and one for the cache, in one guest",
    CacheApart = "cache-apart": "One memory for all layers of a guest, and one for its cache",
});

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
fn check_ranks(count: u32, model: &Model) -> Result<()> {
    let limit = model.config().heads.min(u32::try_from(Rank::MAX).unwrap_or(u32::MAX));
    if count == 0 || count > limit {
        return Err(Error::Ranks { asked: count, limit });
    }
    Ok(())
}

/// Checks a number that an option gives.
pub(crate) fn check_number(option: &'static str, asked: u64, most: u64) -> Result<()> {
    match asked {
        0 => Err(Error::Number { option, asked, least: 1, most }),
        _ if asked > most => Err(Error::Number { option, asked, least: 1, most }),
        _ => Ok(()),
    }
}

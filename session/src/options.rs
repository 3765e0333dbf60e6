//! What a caller decides about a session.

mod cores;
mod placement;
mod ranks;
mod split;
mod stage;
mod touch_ahead;

use std::time::Duration;

use polychord_model::{Activations, CacheType};
use polychord_runtime_api::{Capabilities, ImageRoom, Rank};

pub use self::placement::{Placement, PlacementKind};
use self::ranks::check_ranks;
pub use self::ranks::{Ranks, UnknownRanks};
pub use self::split::{MultiSplit, ShardSplit, Split};
pub use self::stage::Stage;
pub use self::touch_ahead::{TouchAhead, UnknownTouchAhead};

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
///     .placement(Placement::sharded32(2))
///     .ranks(Ranks::Auto);
/// assert_eq!(options.context, Some(4096));
/// ```
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct SessionOptions {
    /// Most tokens of prompt and answer together; by default 4,096 or the model's own context
    /// if that is shorter. Memory is used as the context fills.
    pub context: Option<u32>,
    /// Most tokens that are computed at once; changes speed and memory, never a result. Models whose
    /// tokens attend to those behind them always compute all of a text at once.
    pub batch: u32,
    /// Longest time that the guest may take for a stage of one batch; none by default. An
    /// evaluation that takes longer fails, and the session can be used again.
    pub call_time: Option<Duration>,
    /// Most bytes of all linear memories of the session's guests in this process together; none
    /// by default. Weights that are mapped count like others, as address space. A session that
    /// needs more does not start, and its guests cannot grow beyond it later (those of multi32
    /// only as far as it binds each of their memories).
    pub memory_bytes: Option<u64>,
    /// Which guests hold which layers, and how their memories are cut; changes speed and memory, never
    /// a result.
    pub placement: Placement,
    /// How activations are multiplied with quantized weights; changes speed and results.
    pub activations: Activations,
    /// How keys and values are stored; changes memory and results.
    pub cache_type: CacheType,
    /// How many threads compute, each with guests of its own; as many as pay by default. Changes speed
    /// and memory, never a result.
    pub ranks: Ranks,
    /// The one rank that this session is, of a group whose other ranks are elsewhere, each with a
    /// session of its own: in other threads, or wherever the group reaches. With more than one in
    /// `ranks`, each session of the group has as many threads, and all of them compute together
    /// ([`Rank::within`]).
    ///
    /// All of them need the same model and options, and evaluate the same tokens at the same time.
    /// If one fails all do, until [`Rank::renew`] is called while none of them evaluates. Answers
    /// must not be cancelled or have a deadline, which ranks would see at different times.
    pub rank: Option<Rank>,
    /// The one stage that this session is, of a pipeline whose other stages are elsewhere: it holds the guests
    /// alone that the plan has on its host ([`Plan::hosts`](polychord_runtime_api::Plan::hosts)), or its part of them
    /// in order, and the hidden state goes from stage to stage. A plan of `g` guests has at most `g` stages.
    ///
    /// As for `rank`, all of them need the same model and options, and evaluate the same tokens at the same
    /// time. Logits are those of all stages. With `rank` or more than one in `ranks`, the ranks of each stage
    /// divide the rows of its products ([`Stage::of`]).
    pub stage: Option<Stage>,
    /// Whether attention and feed-forward are timed apart, see [`Phases`](crate::Phases). It
    /// takes two calls of the guest for each block, in place of one for all of them.
    pub profile: bool,
    /// Whether guests touch weights ahead of their use, when they compute single tokens; changes speed,
    /// never a result.
    pub touch_ahead: TouchAhead,
    /// Room for keys and values that forks share with each other; without a bound by default. Sessions with
    /// clones of one room share it. What does not fit is copied.
    pub fork_room: ImageRoom,
}

impl Default for SessionOptions {
    fn default() -> Self {
        Self {
            context: None,
            batch: 64,
            call_time: None,
            memory_bytes: None,
            placement: Placement::default(),
            activations: Activations::default(),
            cache_type: CacheType::default(),
            ranks: Ranks::default(),
            rank: None,
            stage: None,
            profile: false,
            touch_ahead: TouchAhead::default(),
            fork_room: ImageRoom::default(),
        }
    }
}

impl SessionOptions {
    /// The defaults: ranks and a placement by what there is, and no limits.
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

    /// Sets the one stage that this session is, of a pipeline whose others are elsewhere.
    #[must_use]
    pub fn stage(mut self, stage: impl Into<Stage>) -> Self {
        self.stage = Some(stage.into());
        self
    }

    /// Times attention and feed-forward apart.
    #[must_use]
    pub const fn profile(mut self) -> Self {
        self.profile = true;
        self
    }

    /// Sets whether guests touch weights ahead of their use.
    #[must_use]
    pub const fn touch_ahead(mut self, touch_ahead: TouchAhead) -> Self {
        self.touch_ahead = touch_ahead;
        self
    }

    /// Sets the room for keys and values that [forks](crate::Session::fork) share.
    #[must_use]
    pub fn fork_room(mut self, room: ImageRoom) -> Self {
        self.fork_room = room;
        self
    }

    /// How many ranks of a session are in this process.
    pub(crate) fn ranks_here(&self, model: &Model, engine: &Capabilities) -> Result<usize> {
        let is_paged = matches!(self.placement, Placement::Paged { .. });
        let is_one_of_several = self.rank.is_some() || self.stage.is_some();
        let may_choose = self.memory_bytes.is_none() && !is_paged && !is_one_of_several;
        let here = self.ranks.of(model, engine, may_choose)?;
        let all = self.rank.as_ref().map_or(1, Rank::count).saturating_mul(here);
        check_ranks(u32::try_from(all).unwrap_or(u32::MAX), model)?;
        Ok(here)
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

    /// The batch that a session of a context has: no more than fit, but all where tokens attend to
    /// those behind them.
    pub(crate) fn batch_of(&self, model: &Model, context: u32) -> Result<u32> {
        check_number("batch", self.batch.into(), u32::MAX.into())?;
        Ok(if model.config().is_encoder() { context } else { self.batch.min(context) })
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

/// Checks a number that an option gives.
pub(crate) fn check_number(option: &'static str, asked: u64, most: u64) -> Result<()> {
    match asked {
        0 => Err(Error::Number { option, asked, least: 1, most }),
        _ if asked > most => Err(Error::Number { option, asked, least: 1, most }),
        _ => Ok(()),
    }
}

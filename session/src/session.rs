//! A running model with the sequence of tokens that it has seen.

use polychord_runtime_api::{Limits, MemoryStats, Module, PagerStats, Stats};

use crate::error::{Error, Result};
use crate::load_report::LoadReport;
use crate::model::Model;
use crate::options::SessionOptions;
use crate::placement::Placed;
use crate::profile::Profile;
use crate::setup::{Held, Setup};
use crate::team::Team;

/// A model in one or more guests, and the sequence of tokens that it has seen.
///
/// Starting one may fail with [`Error::Context`], [`Error::Number`], [`Error::TooLargeForMemory32`],
/// [`Error::Unavailable`], [`Error::Plan`], [`Error::Ranks`], [`Error::GuestVersion`],
/// [`Error::Guest`], [`Error::Thread`], or [`Error::Runtime`] if the
/// engine cannot run the guest or the file cannot be read any more.
pub struct Session {
    team: Team,
    placed: Placed,
    context: u32,
    model_context: u32,
    position: u32,
    load: LoadReport,
}

impl Session {
    pub(crate) fn start(
        module: &dyn Module,
        model: &Model,
        options: &SessionOptions,
        progress: &mut dyn FnMut(u64),
    ) -> Result<Self> {
        options.check()?;
        let context = options.context_of(model)?;
        let batch = options.batch_of(context)?;
        let placed = model.place(options, module.capabilities())?;
        tracing::info!(placement = placed.name, reason = placed.reason, "placed");
        let memories = module.info().memory_names().len().max(1) as u64;
        let limits = &Limits::default()
            .memory_bytes(placed.guest_bytes)
            .total_bytes(placed.guest_bytes.saturating_mul(memories))
            .call_time(options.call_time);
        let layout = model.layout_of(&placed.plan)?;
        let setup = Setup {
            module,
            model,
            layout,
            placed: &placed,
            guests: &Held::by_guest(&placed.plan),
            limits,
            context,
            batch,
            activations: options.activations,
            cache_type: options.cache_type,
            profile: options.profile,
            rank: None,
        };
        let ranks = options.ranks.of(model, module.capabilities())?;
        let mut load = LoadReport::default();
        let team = Team::start(&setup, ranks, &mut load, progress)?;
        let model_context = model.config().context_length;
        Ok(Self { team, placed, context, model_context, position: 0, load })
    }

    /// Appends tokens to the sequence and computes what follows the last of them.
    ///
    /// # Errors
    ///
    /// [`Error::ContextFull`] if there is no room for them and [`Error::EmptyPrompt`] if there
    /// are none; [`Error::Guest`] if a token is not in the vocabulary, and
    /// [`Error::Runtime`] if the guest is stopped, by its
    /// [`call_time`](SessionOptions::call_time) or a trap. The sequence is then as long as before,
    /// and can go on: what is computed next has the bits that it would have had anyway. Until
    /// then, [`logits`](Self::logits) has no meaning.
    pub fn eval(&mut self, tokens: &[u32]) -> Result<Logits<'_>> {
        if tokens.is_empty() {
            return Err(Error::EmptyPrompt);
        }
        if tokens.len() > (self.context - self.position) as usize {
            return Err(Error::ContextFull {
                asked: tokens.len(),
                used: self.position,
                context: self.context,
                limit: self.model_context,
            });
        }
        self.team.eval(tokens, self.position)?;
        // No more than the context.
        self.position += u32::try_from(tokens.len()).unwrap_or(u32::MAX);
        Ok(self.logits())
    }

    /// The logits that the last [`eval`](Self::eval) computed.
    #[must_use]
    pub fn logits(&self) -> Logits<'_> {
        Logits(self.team.logits())
    }

    /// Forgets the sequence; the next [`eval`](Self::eval) starts a new one.
    pub const fn reset(&mut self) {
        self.position = 0;
    }

    /// How many tokens the sequence has.
    #[must_use]
    pub const fn position(&self) -> u32 {
        self.position
    }

    /// How many threads compute.
    #[must_use]
    pub const fn ranks(&self) -> usize {
        self.team.ranks()
    }

    /// How many tokens it can have.
    #[must_use]
    pub const fn context(&self) -> u32 {
        self.context
    }

    /// How the weights came into the guests. Layers that take turns come in later, and are
    /// counted in [`stats`](Self::stats).
    #[must_use]
    pub const fn load_report(&self) -> LoadReport {
        self.load
    }

    /// Which guests hold which layers, and why.
    #[must_use]
    pub const fn placed(&self) -> &Placed {
        &self.placed
    }

    /// What the memories of all guests were used for.
    #[must_use]
    pub fn stats(&self) -> Stats {
        self.team.stats()
    }

    /// What became of the memories of each guest: rank by rank, in the order of the plan.
    #[must_use]
    pub fn memory_stats(&self) -> Vec<Vec<MemoryStats>> {
        self.team.memory_stats()
    }

    /// How layers took turns, if they do.
    #[must_use]
    pub fn pager_stats(&self) -> Option<PagerStats> {
        self.team.pager_stats()
    }

    /// Where the time of all evaluations since the start went.
    #[must_use]
    pub const fn profile(&self) -> Profile {
        self.team.profile()
    }
}

/// One `f32` for each token of the vocabulary, in place in the guest's memory.
#[derive(Clone, Copy, Debug)]
pub struct Logits<'a>(&'a [u8]);

impl Logits<'_> {
    /// The little-endian bytes, four for each token.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8] {
        self.0
    }

    /// The numbers, read where they are.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = f32> {
        let (words, _) = self.0.as_chunks::<4>();
        words.iter().map(|word| f32::from_le_bytes(*word))
    }

    /// The numbers.
    #[must_use]
    pub fn to_vec(&self) -> Vec<f32> {
        self.iter().collect()
    }
}

impl std::fmt::Debug for Session {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Session")
            .field("engine", &self.team.engine())
            .field("placement", &self.placed.name)
            .field("ranks", &self.team.ranks())
            .field("position", &self.position)
            .field("context", &self.context)
            .finish_non_exhaustive()
    }
}

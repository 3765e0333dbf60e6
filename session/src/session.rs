//! A running model with the sequence of tokens that it has seen.

use std::sync::Arc;

use polychord_abi::buffers::Run;
use polychord_abi::transformer::status;
use polychord_model::Activations;
use polychord_receipts::Digest;
use polychord_runtime_api::{Capabilities, Module, PagerStats, Rank, Stats};

use crate::caches::Given;
use crate::embed::{EmbedOptions, normalize};
use crate::error::{Error, Result};
use crate::evaluate::{Evaluate, rewind_to};
use crate::logits::Logits;
use crate::model::Model;
use crate::options::{Ranks, SessionOptions, Stage};
use crate::pipeline::Wanted;
use crate::placement::Placed;
use crate::prefix;
use crate::rank_pool::RankPool;
use crate::setup::{self, Held, Setup};
use crate::shared::Shared;
use crate::stats::expert_stats::ExpertStats;
use crate::stats::load_report::LoadReport;
use crate::stats::profile::Profile;
use crate::stats::session_stats::{GuestStats, SessionStats};

/// A model in one or more guests, and the sequence of tokens that it has seen.
///
/// [`Transformer::start`](crate::Transformer::start) makes one. That may fail with
/// [`Error::Context`], [`Error::Number`], [`Error::CacheType`], [`Error::TooLargeForMemory32`],
/// [`Error::MemoryBytes`], [`Error::Unavailable`], [`Error::Plan`], [`Error::Ranks`],
/// [`Error::GuestVersion`], [`Error::Guest`], [`Error::Thread`], or [`Error::Runtime`] if the
/// engine cannot run the guest or the file cannot be read any more.
///
/// Its memory grows as the context fills, and stays: [`reset`](Self::reset) and
/// [`truncate`](Self::truncate) give none of it back to the system. Dropping the session does,
/// and starting another one takes milliseconds once the guest is compiled.
///
/// ```no_run
/// use polychord_session::{Error, Session};
///
/// fn run(session: &mut Session) -> Result<(), Error> {
///     let logits = session.eval(&[1, 2, 3])?;
///     println!("{} logits", logits.iter().len());
///     // Another end of the same beginning.
///     session.truncate(2)?;
///     session.eval(&[7])?;
///     assert_eq!(session.tokens(), [1, 2, 7]);
///     Ok(())
/// }
/// ```
pub struct Session {
    pool: RankPool,
    placed: Placed,
    context: u32,
    batch: u32,
    tokens: Vec<u32>,
    /// Whether there are logits, which were computed after the last token.
    has_logits: bool,
    /// The highest end that an evaluation had since the sequence began, also if it failed: what was
    /// kept of earlier positions may be gone.
    reached: u32,
    /// Where the sequence was when it was restored: a snapshot has no more of earlier positions than
    /// what comes next needs.
    restored: u32,
    load: LoadReport,
    /// What it shares with its forks.
    shared: Shared,
    /// What it was given when it was forked.
    given: Given,
    /// What it was started with.
    module: Arc<dyn Module>,
    model: Model,
    options: SessionOptions,
    /// Of the guest, if it does not come with this crate.
    guest: Option<Digest>,
    /// Whether other ranks compute what this one does.
    leading: bool,
}

impl Session {
    /// Decides about the placement and loads the model.
    pub(crate) fn start(
        module: &Arc<dyn Module>,
        guest: Option<Digest>,
        model: &Model,
        options: &SessionOptions,
        progress: &mut dyn FnMut(u64),
    ) -> Result<Self> {
        options.check()?;
        let placed = model.place(options, module.capabilities())?;
        model.check_values()?;
        tracing::info!(placement = placed.name, reason = placed.reason, "placed");
        Self::start_placed(module, guest, model, options, placed, progress)
    }

    fn start_placed(
        module: &Arc<dyn Module>,
        guest: Option<Digest>,
        model: &Model,
        options: &SessionOptions,
        placed: Placed,
        progress: &mut dyn FnMut(u64),
    ) -> Result<Self> {
        let context = options.context_of(model)?;
        let batch = options.batch_of(model, context)?;
        let ranks = options.ranks_here(model, module.capabilities())?;
        let memories = module.info().memory_names().len().max(1) as u64;
        let setup = Setup {
            module: &**module,
            model,
            source: &model.expecting(&placed.plan),
            layout: model.layout_of(&placed.plan)?,
            placed: &placed,
            guests: &Held::by_guest(&placed.plan),
            limits: &setup::limits(&placed, options, ranks, memories),
            context,
            batch,
            activations: options.activations,
            cache_type: options.cache_type,
            profile: options.profile,
            touch_ahead: options.touch_ahead,
            rank: options.rank.as_ref(),
            stage: options.stage.as_ref(),
        };
        let mut load = LoadReport::default();
        let pool = RankPool::start(&setup, ranks, &mut load, progress)?;
        Ok(Self {
            pool,
            placed,
            context,
            batch,
            reached: 0,
            restored: 0,
            tokens: Vec::with_capacity((context as usize).min(MOST_TOKENS)),
            has_logits: false,
            shared: Shared::default(),
            given: Given::default(),
            load,
            module: module.clone(),
            model: model.clone(),
            // A copy has as many ranks, even if there are other cores then.
            options: options.clone().ranks(Ranks::Exactly(u32::try_from(ranks).unwrap_or(1))),
            guest,
            leading: false,
        })
    }

    /// Appends tokens to the sequence and computes what follows the last of them.
    ///
    /// # Errors
    ///
    /// [`Error::ContextFull`] if there is no room for them and [`Error::EmptyPrompt`] if there
    /// are none; [`Error::Guest`] if a token is not in the vocabulary, and
    /// [`Error::Runtime`] if the guest is stopped, by its
    /// [`call_time`](SessionOptions::call_time) or a trap. The sequence is then as long as before,
    /// and can go on: what is computed next has the same bits as without the failure. Until
    /// then, [`logits`](Self::logits) has no meaning.
    pub fn eval(&mut self, tokens: &[u32]) -> Result<Logits<'_>> {
        self.append(tokens, Wanted::Logits)?;
        Ok(self.logits())
    }

    /// Makes one vector of a text, as its tokens: what the model's file says is left of it
    /// ([`Pooling`](crate::Pooling)), with the length 1. The session has no tokens afterwards.
    ///
    /// [`Tokenizer::encode_document`](polychord_model::tokenizer::Tokenizer::encode_document) gives the
    /// tokens of a text as a model for embeddings wants them.
    ///
    /// ```no_run
    /// # fn run(session: &mut polychord_session::Session) -> polychord_session::Result<()> {
    /// let vector = session.embed(&[1, 2, 3])?;
    /// let length: f32 = vector.iter().map(|number| number * number).sum();
    /// assert!((length - 1.0).abs() < 1e-5);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// Returns the errors of [`embed_with`](Self::embed_with).
    pub fn embed(&mut self, tokens: &[u32]) -> Result<Vec<f32>> {
        self.embed_with(tokens, &EmbedOptions::default())
    }

    /// Makes one vector of a text, as the options say. The session has no tokens afterwards.
    ///
    /// # Errors
    ///
    /// [`Error::Pooling`] if neither the options nor the model's file say what is left of a text,
    /// [`Error::Leading`] if others follow this session, [`Error::PartOfStages`] if it is a stage, and the
    /// errors of [`eval`](Self::eval).
    pub fn embed_with(&mut self, tokens: &[u32], options: &EmbedOptions) -> Result<Vec<f32>> {
        if self.leading {
            return Err(Error::Leading);
        }
        let pooling = options.pooling.or(self.model.config().pooling).ok_or(Error::Pooling)?;
        self.reset();
        self.check(tokens)?;
        let evaluated = self.run(tokens, 0, Wanted::Embedding(pooling));
        evaluated.map_err(|error| self.name_token(error, tokens))?;
        let mut vector = self.pool.vector().to_vec();
        if options.normalized {
            normalize(&mut vector);
        }
        Ok(vector)
    }

    /// Appends tokens to the sequence, of which more follow: [`logits`](Self::logits) has no meaning
    /// until the next [`eval`](Self::eval). A long prompt can be evaluated so in pieces, between
    /// which something else is done; the bits are those of one evaluation.
    ///
    /// # Errors
    ///
    /// Returns the errors of [`eval`](Self::eval).
    pub fn extend(&mut self, tokens: &[u32]) -> Result<()> {
        self.append(tokens, Wanted::Cache)
    }

    pub(crate) fn append(&mut self, tokens: &[u32], result: Wanted) -> Result<()> {
        if self.model.config().is_encoder() {
            return Err(Error::Encoder);
        }
        self.check(tokens)?;
        let used = self.position();
        self.tell(tokens, result)?;
        self.prepare_to_go_on()?;
        self.has_logits = false;
        let evaluated = self.run(tokens, used, result);
        evaluated.map_err(|error| self.name_token(error, tokens))?;
        self.has_logits = result == Wanted::Logits;
        self.tokens.extend_from_slice(tokens);
        Ok(())
    }

    /// Whether a token of that session can be computed in one pass over the weights with one of this.
    pub(crate) fn steps_with(&self, other: &Self) -> bool {
        let numbers = |it: &Self| (it.options.activations, it.options.cache_type);
        let alone = self.leading || other.leading;
        !alone
            && self.model.is(&other.model)
            && numbers(self) == numbers(other)
            && self.pool.steps_with(&other.pool)
    }

    /// Checks that a token can be appended, before anything is computed.
    pub(crate) fn check_step(&self, token: u32) -> Result<()> {
        if self.model.config().is_encoder() {
            return Err(Error::Encoder);
        }
        self.check(&[token])
    }

    /// A token is about to be computed, together with those of other sessions. Returns its position.
    pub(crate) fn begin_step(&mut self) -> Result<u32> {
        self.prepare_to_go_on()?;
        self.has_logits = false;
        let position = self.position();
        self.before_writing(position)?;
        self.reach(position, position.saturating_add(1));
        Ok(position)
    }

    /// It was computed.
    pub(crate) fn end_step(&mut self, token: u32) {
        self.tokens.push(token);
        self.has_logits = true;
    }

    /// Tokens are about to be computed, stage by stage. Returns the position of the first.
    pub(crate) fn begin_tokens(&mut self, tokens: &[u32]) -> Result<u32> {
        if self.model.config().is_encoder() {
            return Err(Error::Encoder);
        }
        self.check(tokens)?;
        if !self.can_go_on() {
            let reason = "a sequence that has to be evaluated again does not go through stages with others: evaluate or reset it before";
            return Err(Error::Plan { reason: reason.into() });
        }
        self.has_logits = false;
        let position = self.position();
        self.before_writing(position)?;
        // No more than the context.
        let end = position + u32::try_from(tokens.len()).unwrap_or(u32::MAX - position);
        self.reach(position, end);
        Ok(position)
    }

    /// They were computed.
    pub(crate) fn end_tokens(&mut self, tokens: &[u32]) {
        self.tokens.extend_from_slice(tokens);
    }

    /// What follows the last of them is known.
    pub(crate) const fn set_has_logits(&mut self) {
        self.has_logits = true;
    }

    /// Forgets what was appended behind a position.
    pub(crate) fn take_back(&mut self, position: u32) {
        if self.position() > position {
            self.tokens.truncate(position as usize);
            self.has_logits = false;
        }
    }

    pub(crate) const fn pool_mut(&mut self) -> &mut RankPool {
        &mut self.pool
    }

    /// Checks that there are tokens, and room for them.
    fn check(&self, tokens: &[u32]) -> Result<()> {
        if tokens.is_empty() {
            return Err(Error::EmptyPrompt);
        }
        let used = self.position();
        if tokens.len() > (self.context - used) as usize {
            return Err(Error::ContextFull {
                asked: tokens.len(),
                used,
                context: self.context,
                limit: self.model.config().context_length,
            });
        }
        Ok(())
    }

    /// Whether the guests have kept what the end of the sequence needs: a state cannot be cut, and
    /// windows keep little more than they see.
    fn can_go_on(&self) -> bool {
        self.can_go_on_at(self.position())
    }

    /// Whether they have what is needed behind the first `position` tokens.
    pub(crate) fn can_go_on_at(&self, position: u32) -> bool {
        let integers = self.options.activations == Activations::Int8;
        let run = Run { context: self.context, batch: self.batch, integers };
        let config = self.model.config();
        let has_rows = position >= self.restored || config.keeps_all();
        has_rows && config.can_go_on(position, self.reached, &run)
    }

    /// Evaluates the sequence again from its beginning if it cannot go on as it is.
    fn prepare_to_go_on(&mut self) -> Result<()> {
        if self.can_go_on() {
            return Ok(());
        }
        tracing::debug!(
            position = self.position(),
            reached = self.reached,
            "the sequence is evaluated again"
        );
        let tokens = std::mem::take(&mut self.tokens);
        let evaluated = self.run(&tokens, 0, Wanted::Cache);
        self.tokens = tokens;
        if evaluated.is_err() {
            self.reached = u32::MAX;
        }
        evaluated
    }

    fn run(&mut self, tokens: &[u32], position: u32, result: Wanted) -> Result<()> {
        self.before_writing(position)?;
        let evaluated = self.pool.eval(tokens, position, result);
        // No more than the context.
        let end = position + u32::try_from(tokens.len()).unwrap_or(u32::MAX - position);
        self.reach(position, end);
        evaluated
    }

    /// Makes ready for rows that are written from a position on.
    fn before_writing(&mut self, position: u32) -> Result<()> {
        let ready = self.shared.before_writing(&mut self.pool, position);
        if ready.is_err() {
            // What was kept may be damaged.
            self.reached = u32::MAX;
        }
        ready
    }

    /// What was kept behind a position may be gone, up to an end.
    fn reach(&mut self, position: u32, end: u32) {
        if position == 0 {
            (self.reached, self.restored) = (end, 0);
        } else {
            self.reached = self.reached.max(end);
        }
    }

    /// The guest only says that a token is not in the vocabulary; this says which.
    pub(crate) fn name_token(&self, error: Error, tokens: &[u32]) -> Error {
        let vocabulary = self.model.config().vocab;
        let unknown = tokens.iter().find(|token| **token >= vocabulary);
        match (error, unknown) {
            (Error::Guest { operation, status: status::BAD_TOKEN, .. }, Some(token)) => {
                let reason =
                    format!("a token is not in the vocabulary: {token}, where it has {vocabulary}");
                Error::Guest { operation, status: status::BAD_TOKEN, reason }
            }
            (error, _) => error,
        }
    }

    /// The logits that the last [`eval`](Self::eval) computed. They have no meaning after an answer
    /// that was interrupted within its prompt.
    #[must_use]
    pub fn logits(&self) -> Logits<'_> {
        Logits::of_bytes(self.pool.logits())
    }

    /// Forgets the sequence; the next [`eval`](Self::eval) starts a new one. The memory that it
    /// has used stays with the session.
    pub fn reset(&mut self) {
        self.tokens.clear();
        self.has_logits = false;
    }

    /// Forgets all but the first `len` tokens: what follows has the bits that it would have in a
    /// session that has seen these alone. Until the next [`eval`](Self::eval),
    /// [`logits`](Self::logits) has no meaning if tokens were forgotten.
    ///
    /// Where blocks have a state in place of keys and values (short convolutions, delta nets), it
    /// cannot be cut: the next [`eval`](Self::eval) computes what is left of the sequence again, which
    /// takes as long as that prompt did. So it does where blocks have a window and more than a batch
    /// of tokens is forgotten. That is one call, which cannot be stopped in between but by its
    /// [`call_time`](SessionOptions::call_time); [`rewind`](Self::rewind) leaves it to the caller.
    ///
    /// # Errors
    ///
    /// [`Error::Truncate`] if the sequence is shorter.
    pub fn truncate(&mut self, len: u32) -> Result<()> {
        let position = self.position();
        if len > position {
            return Err(Error::Truncate { asked: len, position });
        }
        self.tokens.truncate(len as usize);
        self.has_logits &= len == position;
        Ok(())
    }

    /// Forgets all but the first `len` tokens as [`truncate`](Self::truncate) does, and all of them where
    /// what is left would have to be computed again; tells how many are left.
    ///
    /// The caller then evaluates what is missing, by [`extend`](Self::extend) in pieces if it is long:
    /// between them it can stop, and no call takes longer than its own tokens do.
    ///
    /// ```no_run
    /// # fn run(session: &mut polychord_session::Session, prompt: &[u32]) -> polychord_session::Result<()> {
    /// // Goes on behind the first 100 tokens, which the session has seen.
    /// let seen = session.rewind(100)?;
    /// for piece in prompt[seen as usize..].chunks(64) {
    ///     session.extend(piece)?;
    /// }
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// [`Error::Truncate`] if the sequence is shorter.
    pub fn rewind(&mut self, len: u32) -> Result<u32> {
        self.truncate(len)?;
        if !self.can_go_on() {
            self.reset();
        }
        Ok(self.position())
    }

    /// Forgets what does not begin as `sequence` does, as [`rewind`](Self::rewind) forgets; tells how many of
    /// its tokens are left.
    ///
    /// # Errors
    ///
    /// The errors of [`rewind`](Self::rewind).
    pub fn rewind_to(&mut self, sequence: &[u32]) -> Result<u32> {
        rewind_to(self, sequence)
    }

    /// The tokens of the sequence.
    #[must_use]
    pub fn tokens(&self) -> &[u32] {
        &self.tokens
    }

    /// How many tokens the sequence has.
    #[must_use]
    pub fn position(&self) -> u32 {
        // No more than the context.
        u32::try_from(self.tokens.len()).unwrap_or(u32::MAX)
    }

    /// How many ranks compute, in this process or elsewhere.
    #[must_use]
    pub fn ranks(&self) -> usize {
        self.pool.ranks()
    }

    /// How many tokens it can have.
    #[must_use]
    pub const fn context(&self) -> u32 {
        self.context
    }

    /// The model.
    #[must_use]
    pub const fn model(&self) -> &Model {
        &self.model
    }

    /// How the weights came into the guests. Layers that are paged come in later, and are
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

    /// What the session has done so far: counters of guests and of paging, and the profile.
    #[must_use]
    pub fn report(&self) -> SessionStats {
        let mut stats = SessionStats::default();
        self.pool.report(&mut stats);
        stats.shared_bytes = stats.totals.shared_bytes;
        stats.image_bytes = self.shared.bytes();
        stats.copied_bytes = self.given.copied;
        stats
    }

    /// Counters of all guests together.
    #[must_use]
    pub fn stats(&self) -> Stats {
        self.report().totals
    }

    /// Statistics of the memories of each guest: rank by rank, in the order of the plan. Asks the
    /// system about every page, which takes a millisecond or so for each GiB.
    #[must_use]
    pub fn memory_stats(&self) -> Vec<GuestStats> {
        let mut guests = Vec::new();
        self.pool.report_guests(&mut guests);
        guests
    }

    /// Counters of the paging of layers; none if all layers stay.
    #[must_use]
    pub fn pager_stats(&self) -> Option<PagerStats> {
        self.report().paging
    }

    /// Statistics of the experts that tokens chose, block by block, as the first rank saw it; none
    /// unless experts are paged.
    #[must_use]
    pub fn expert_stats(&self) -> Vec<ExpertStats> {
        self.pool.expert_stats()
    }

    /// Where the time of all evaluations since the start went.
    #[must_use]
    pub fn profile(&self) -> Profile {
        self.report().profile
    }

    /// A session like this one, without a sequence.
    pub(crate) fn start_alike(&self) -> Result<Self> {
        let Self { module, model, options, guest, .. } = self;
        Self::start_placed(module, *guest, model, options, self.placed.clone(), &mut |_| ())
    }

    /// Continues the first `len` tokens of another session as that one would, and shares what it `wanted`; of
    /// the guests' state it takes none if that has to be computed again.
    pub(crate) fn continue_from(
        &mut self,
        other: &Self,
        len: u32,
        wanted: prefix::Wanted,
    ) -> Result<()> {
        if len > 0 && other.can_go_on_at(len) {
            self.given = self.pool.continue_from(&other.pool, len, &wanted)?;
            self.shared = Shared::with(wanted, self.given);
        }
        self.tokens.extend_from_slice(&other.tokens[..len as usize]);
        self.has_logits = other.has_logits && len == other.position();
        self.reached = other.reached;
        self.restored = other.restored;
        Ok(())
    }

    /// How it was started.
    pub(crate) const fn options(&self) -> &SessionOptions {
        &self.options
    }

    /// The engine that runs its guests.
    #[must_use]
    pub fn engine(&self) -> &Capabilities {
        self.module.capabilities()
    }

    /// The digest of a guest that does not come with this crate.
    pub(crate) const fn guest(&self) -> Option<Digest> {
        self.guest
    }

    /// The guests.
    pub(crate) const fn pool(&self) -> &RankPool {
        &self.pool
    }

    /// Lets `fill` write state of a sequence into the guests, which have these tokens then. Returns
    /// whether there are logits.
    pub(crate) fn fill(
        &mut self,
        tokens: &[u32],
        fill: impl FnOnce(&mut RankPool) -> Result<bool>,
    ) -> Result<()> {
        self.has_logits = fill(&mut self.pool)?;
        self.tokens.clear();
        self.tokens.extend_from_slice(tokens);
        (self.reached, self.restored) = (self.position(), self.position());
        Ok(())
    }

    /// What a fork of the first `len` tokens can share.
    pub(crate) fn offer(&self, len: u32) -> prefix::Wanted {
        let can_map = self.module.capabilities().mapping && self.can_go_on_at(len);
        let wanted = can_map.then(|| {
            self.shared.offer(&self.pool, len, self.reached.max(len), &self.options.fork_room)
        });
        wanted.flatten()
    }

    /// Whether [`logits`](Self::logits) are what follows the sequence.
    pub(crate) const fn has_logits(&self) -> bool {
        self.has_logits
    }

    /// What decides whether the sequence is evaluated again before it goes on: where it was restored, and
    /// how far evaluations have reached.
    pub(crate) const fn kept(&self) -> (u32, u32) {
        (self.restored, self.reached)
    }

    pub(crate) const fn batch(&self) -> u32 {
        self.batch
    }

    pub(crate) const fn is_leading(&self) -> bool {
        self.leading
    }

    pub(crate) const fn set_leading(&mut self, leading: bool) {
        self.leading = leading;
    }

    /// The rank that its options say it is.
    pub(crate) fn given_rank(&self, operation: &'static str) -> Result<&Rank> {
        let stage = self.options.stage.as_ref();
        let given = stage.map_or(self.options.rank.as_ref(), Stage::all);
        given.ok_or(Error::NoRank { operation })
    }

    /// How many tokens of a long prompt are evaluated between two looks at whether to stop: a
    /// batch, or several where layers are paged, which come in once for all of these.
    pub(crate) fn piece(&self) -> usize {
        let is_paged = self.placed.plan.memories.iter().any(|memory| memory.paged);
        self.batch as usize * if is_paged { PAGED_BATCHES } else { 1 }
    }
}

/// Room for tokens that is made at the start, so that evaluating one allocates nothing: 256 KiB.
const MOST_TOKENS: usize = 64 << 10;

/// Batches that go through a paged model together while something may stop them.
const PAGED_BATCHES: usize = 8;

impl Evaluate for Session {
    fn context(&self) -> u32 {
        self.context()
    }

    fn tokens(&self) -> &[u32] {
        self.tokens()
    }

    fn eval(&mut self, tokens: &[u32]) -> Result<Logits<'_>> {
        self.eval(tokens)
    }

    fn logits(&self) -> Logits<'_> {
        self.logits()
    }

    fn rewind(&mut self, len: u32) -> Result<u32> {
        self.rewind(len)
    }
}

impl std::fmt::Debug for Session {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Session")
            .field("engine", &self.module.capabilities().engine)
            .field("placement", &self.placed.name)
            .field("ranks", &self.ranks())
            .field("position", &self.position())
            .field("context", &self.context)
            .finish_non_exhaustive()
    }
}

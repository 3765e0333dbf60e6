//! Chooses the next token from the network's logits.
//!
//! Steps and their order are llama.cpp's: penalties, top-k, top-p, min-p, temperature, draw.
//! The same logits, options and seed give the same token on every platform: random numbers
//! are ChaCha8's, exponentials come from the `libm` crate and not from the host's library,
//! and sums are taken in a fixed order.

use std::cmp::Ordering;

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};
use serde::{Deserialize, Serialize};

use crate::ErrorKind;

/// How to choose the next token. The default is llama.cpp's.
///
/// ```
/// use polychord_model::Sampling;
///
/// let drawn = Sampling::new().temperature(0.7).top_p(0.9).seed(42);
/// drawn.validate()?;
/// let repeatable = Sampling::greedy().repeat_penalty(1.1);
/// # let _ = repeatable;
/// # Ok::<(), polychord_model::sampler::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct Sampling {
    /// Logits are divided by it: 0 always takes the best token (the lowest id of equals),
    /// 1 draws with the model's own probabilities. 0 to 100.
    pub temperature: f32,
    /// Only this many of the best tokens are drawn from; 0 is all.
    pub top_k: u32,
    /// Only the best tokens are drawn from that together have this probability (before
    /// temperature); 1 is all. Above 0 to 1.
    pub top_p: f32,
    /// Only tokens are drawn from that have at least this part of the probability of the best
    /// one (before temperature); 0 is all. 0 to 1.
    pub min_p: f32,
    /// Positive logits of recent tokens are divided by it and negative ones multiplied; 1
    /// changes nothing. Above 0 to 100.
    pub repeat_penalty: f32,
    /// Taken from the logit of a recent token for each time that it is there; 0 changes nothing.
    /// -100 to 100.
    pub frequency_penalty: f32,
    /// Taken once from the logit of each recent token; 0 changes nothing. -100 to 100.
    pub presence_penalty: f32,
    /// How many tokens are recent; 0 is none.
    pub repeat_last_n: u32,
    /// Start of the random numbers.
    pub seed: u64,
}

impl Default for Sampling {
    fn default() -> Self {
        Self {
            temperature: 0.8,
            top_k: 40,
            top_p: 0.95,
            min_p: 0.0,
            repeat_penalty: 1.0,
            frequency_penalty: 0.0,
            presence_penalty: 0.0,
            repeat_last_n: 64,
            seed: 0,
        }
    }
}

/// Why nothing can be chosen.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// An option outside of its range.
    #[error("{field} is {value}, it must be {range}")]
    Option {
        /// The field of [`Sampling`].
        field: &'static str,
        /// Value of the field.
        value: f32,
        /// What is allowed.
        range: &'static str,
    },
    /// A logit that is not a number or infinite.
    #[error(
        "logit of token {id} is {value}: the network computed nonsense, so the model or its weights are damaged"
    )]
    Logit {
        /// The token.
        id: usize,
        /// Logit of the token.
        value: f32,
    },
    /// No token can be chosen.
    #[error("none of {count} logits is finite, so no token can be chosen")]
    Empty {
        /// Number of logits.
        count: usize,
    },
}

impl Error {
    /// What went wrong, for programs that act on it.
    #[must_use]
    pub const fn kind(&self) -> ErrorKind {
        match self {
            Self::Option { .. } => ErrorKind::InvalidArgument,
            // Logits that are no numbers come from weights that are none.
            Self::Logit { .. } | Self::Empty { .. } => ErrorKind::InvalidFile,
        }
    }
}

impl Sampling {
    /// Draws as llama.cpp does by default.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Always the best token.
    #[must_use]
    pub fn greedy() -> Self {
        Self { temperature: 0.0, ..Self::default() }
    }

    /// Sets what logits are divided by, 0 to 100; 0 always takes the best token.
    #[must_use]
    pub const fn temperature(mut self, temperature: f32) -> Self {
        self.temperature = temperature;
        self
    }

    /// Draws from this many of the best tokens only; 0 is all.
    #[must_use]
    pub const fn top_k(mut self, count: u32) -> Self {
        self.top_k = count;
        self
    }

    /// Draws only from the best tokens that together have this probability, above 0 to 1.
    #[must_use]
    pub const fn top_p(mut self, probability: f32) -> Self {
        self.top_p = probability;
        self
    }

    /// Makes recent tokens less likely by this factor, above 0 to 100; 1 changes nothing.
    #[must_use]
    pub const fn repeat_penalty(mut self, factor: f32) -> Self {
        self.repeat_penalty = factor;
        self
    }

    /// Sets how much the logit of a recent token falls each time that it is there.
    #[must_use]
    pub const fn frequency_penalty(mut self, amount: f32) -> Self {
        self.frequency_penalty = amount;
        self
    }

    /// Sets how much the logit of a recent token falls once.
    #[must_use]
    pub const fn presence_penalty(mut self, amount: f32) -> Self {
        self.presence_penalty = amount;
        self
    }

    /// Sets which part of the best token's probability another one must have to be drawn.
    #[must_use]
    pub const fn min_p(mut self, part: f32) -> Self {
        self.min_p = part;
        self
    }

    /// Sets how many tokens are recent for the repeat penalty; 0 is none.
    #[must_use]
    pub const fn repeat_last_n(mut self, count: u32) -> Self {
        self.repeat_last_n = count;
        self
    }

    /// Sets the start of the random numbers.
    #[must_use]
    pub const fn seed(mut self, seed: u64) -> Self {
        self.seed = seed;
        self
    }

    /// Checks every field.
    ///
    /// # Errors
    ///
    /// [`Error::Option`] names the first that is out of range.
    pub fn validate(&self) -> Result<(), Error> {
        let check = |field, value: f32, low: bool, high: f32, range| match value {
            v if v.is_finite() && (v > 0.0 || low && v == 0.0) && v <= high => Ok(()),
            value => Err(Error::Option { field, value, range }),
        };
        for (field, value) in [
            ("frequency_penalty", self.frequency_penalty),
            ("presence_penalty", self.presence_penalty),
        ] {
            check(field, value.abs(), true, 100.0, "-100 to 100")?;
        }
        check("min_p", self.min_p, true, 1.0, "0 to 1")?;
        check("temperature", self.temperature, true, 100.0, "0 to 100")?;
        check("top_p", self.top_p, false, 1.0, "above 0 and at most 1")?;
        check("repeat_penalty", self.repeat_penalty, false, 100.0, "above 0 and at most 100")
    }
}

/// Chooses tokens; holds the random numbers' state and scratch memory.
///
/// ```
/// use polychord_model::sampler::{Sampler, Sampling};
///
/// let mut sampler = Sampler::new(&Sampling::greedy())?;
/// let logits = [0.5, 2.0, -1.0];
/// assert_eq!(sampler.sample(logits, &[])?, 1);
/// # Ok::<(), polychord_model::sampler::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct Sampler {
    options: Sampling,
    rng: ChaCha8Rng,
    candidates: Vec<Candidate>,
    /// Tokens to penalize.
    recent: Vec<u32>,
}

/// Room for recent tokens that is made at the start: as many as programs usually look back.
const MOST_RECENT: usize = 4096;

/// Words of 32 bits that a random number takes.
const WORDS: u128 = 2;

#[derive(Clone, Copy, Debug)]
struct Candidate {
    id: u32,
    logit: f32,
}

impl Candidate {
    /// Better ones first, lower ids first of equals. Logits are never NaN.
    fn rank(&self, other: &Self) -> Ordering {
        // Not `total_cmp`: the two zeros are equal.
        other.logit.partial_cmp(&self.logit).unwrap_or(Ordering::Equal).then(self.id.cmp(&other.id))
    }
}

impl Sampler {
    /// A sampler at the start of its random numbers.
    ///
    /// # Errors
    ///
    /// Returns the errors of [`Sampling::validate`].
    pub fn new(options: &Sampling) -> Result<Self, Error> {
        options.validate()?;
        let rng = ChaCha8Rng::seed_from_u64(options.seed);
        let last = usize::try_from(options.repeat_last_n).unwrap_or(usize::MAX);
        let recent = Vec::with_capacity(last.min(MOST_RECENT));
        Ok(Self { options: *options, rng, candidates: Vec::new(), recent })
    }

    /// A sampler that has drawn that many random numbers, to go on where another one was.
    ///
    /// # Errors
    ///
    /// Returns the errors of [`Sampling::validate`].
    pub fn after(options: &Sampling, drawn: u64) -> Result<Self, Error> {
        let mut sampler = Self::new(options)?;
        sampler.rng.set_word_pos(u128::from(drawn) * WORDS);
        Ok(sampler)
    }

    /// How many random numbers it has drawn: one for each token, and none where the best is taken.
    #[must_use]
    pub fn drawn(&self) -> u64 {
        u64::try_from(self.rng.get_word_pos() / WORDS).unwrap_or(u64::MAX)
    }

    /// What it was made with.
    #[must_use]
    pub const fn options(&self) -> &Sampling {
        &self.options
    }

    /// Chooses a token id from `logits` (one for each token of the vocabulary), given the
    /// tokens of the sequence so far, the latest last.
    ///
    /// A logit of negative infinity rules its token out. From the second time on, nothing is
    /// allocated for as many logits.
    ///
    /// # Errors
    ///
    /// [`Error::Logit`] for NaN and positive infinity, [`Error::Empty`] if every token is
    /// ruled out.
    pub fn sample(
        &mut self,
        logits: impl IntoIterator<Item = f32>,
        recent: &[u32],
    ) -> Result<u32, Error> {
        let count = self.load(logits)?;
        self.penalize(recent);
        self.candidates.retain(|candidate| candidate.logit > f32::NEG_INFINITY);
        if self.options.temperature == 0.0 {
            let best = self.candidates.iter().min_by(|a, b| a.rank(b));
            return best.map(|best| best.id).ok_or(Error::Empty { count });
        }
        self.top_k();
        self.top_p();
        self.min_p();
        self.draw().ok_or(Error::Empty { count })
    }

    /// Takes all logits for candidates, and returns how many they are.
    fn load(&mut self, logits: impl IntoIterator<Item = f32>) -> Result<usize, Error> {
        self.candidates.clear();
        self.candidates.extend((0..).zip(logits).map(|(id, logit)| Candidate { id, logit }));
        let bad = |it: &Candidate| it.logit.is_nan() || it.logit == f32::INFINITY;
        if let Some(id) = self.candidates.iter().position(bad) {
            return Err(Error::Logit { id, value: self.candidates[id].logit });
        }
        Ok(self.candidates.len())
    }

    /// Makes recent tokens less probable. `NaN` cannot come of it: all factors are finite.
    fn penalize(&mut self, recent: &[u32]) {
        let Sampling { repeat_penalty, frequency_penalty, presence_penalty, .. } = self.options;
        let last = usize::try_from(self.options.repeat_last_n).unwrap_or(usize::MAX);
        let changes_nothing =
            repeat_penalty == 1.0 && frequency_penalty == 0.0 && presence_penalty == 0.0;
        if changes_nothing || last == 0 {
            return;
        }
        self.recent.clear();
        self.recent.extend_from_slice(&recent[recent.len().saturating_sub(last)..]);
        self.recent.sort_unstable();
        for same in self.recent.chunk_by(|a, b| a == b) {
            // The n-th candidate is token n until some are dropped.
            let Some(candidate) =
                usize::try_from(same[0]).ok().and_then(|id| self.candidates.get_mut(id))
            else {
                continue;
            };
            let repeated = if candidate.logit <= 0.0 {
                candidate.logit * repeat_penalty
            } else {
                candidate.logit / repeat_penalty
            };
            #[allow(clippy::cast_precision_loss, reason = "a context is shorter than 2^24 tokens")]
            let times = same.len() as f32;
            let changed = repeated - times * frequency_penalty - presence_penalty;
            candidate.logit = changed.min(f32::MAX);
        }
    }

    /// Keeps the best `k`, sorted.
    fn top_k(&mut self) {
        let k = usize::try_from(self.options.top_k).unwrap_or(usize::MAX);
        if k == 0 || k >= self.candidates.len() {
            return;
        }
        self.candidates.select_nth_unstable_by(k - 1, Candidate::rank);
        self.candidates.truncate(k);
        self.candidates.sort_unstable_by(Candidate::rank);
    }

    /// Keeps the shortest run of best tokens that has the wanted probability, sorted.
    fn top_p(&mut self) {
        let p = f64::from(self.options.top_p);
        if p >= 1.0 {
            return;
        }
        // Summed in the order that `top_k` left: that of ids, or of rank.
        let best = best(&self.candidates);
        let weight = |candidate: &Candidate| libm::exp(f64::from(candidate.logit) - best);
        let wanted = p * self.candidates.iter().map(weight).sum::<f64>();
        let (mut sum, mut sorted, mut step) = (0.0, 0, 64);
        while sorted < self.candidates.len() {
            // The best few suffice almost always, so not all are sorted.
            let rest = &mut self.candidates[sorted..];
            let count = rest.len().min(step);
            if count < rest.len() {
                rest.select_nth_unstable_by(count - 1, Candidate::rank);
            }
            rest[..count].sort_unstable_by(Candidate::rank);
            for candidate in &rest[..count] {
                sum += weight(candidate);
                sorted += 1;
                if sum >= wanted {
                    self.candidates.truncate(sorted);
                    return;
                }
            }
            step *= 4;
        }
    }

    /// Drops tokens with too small a part of the best one's probability.
    fn min_p(&mut self) {
        let part = f64::from(self.options.min_p);
        if part > 0.0 {
            let best = best(&self.candidates);
            self.candidates.retain(|it| libm::exp(f64::from(it.logit) - best) >= part);
        }
    }

    /// Draws by probability after temperature.
    fn draw(&mut self) -> Option<u32> {
        let temperature = f64::from(self.options.temperature);
        let best = best(&self.candidates);
        let weight =
            |candidate: &Candidate| libm::exp((f64::from(candidate.logit) - best) / temperature);
        let total: f64 = self.candidates.iter().map(weight).sum();
        // 53 bits: uniform in 0..1.
        #[allow(clippy::cast_precision_loss, reason = "53 bits are exact")]
        let uniform = (self.rng.next_u64() >> 11) as f64 / (1_u64 << 53) as f64;
        let mut left = uniform * total;
        for candidate in &self.candidates {
            left -= weight(candidate);
            if left < 0.0 {
                return Some(candidate.id);
            }
        }
        // Rounding left a rest.
        self.candidates.last().map(|last| last.id)
    }
}

/// The largest logit.
fn best(candidates: &[Candidate]) -> f64 {
    candidates.iter().fold(f64::NEG_INFINITY, |best, candidate| best.max(candidate.logit.into()))
}

//! How much an answer may compute before it lets its caller do something else.

use std::time::{Duration, Instant};

use crate::generate::generation::Token;

/// How much [`Generator::next_within`](crate::Generator::next_within) may compute: tokens of the
/// prompt and of the answer, or time, or both.
///
/// ```no_run
/// use std::time::Duration;
///
/// use polychord_session::{Budget, Error, Generator, Progress};
///
/// /// What a host with a limit for each message does in one of them; false when the answer has ended.
/// fn work(generator: &mut Generator, text: &mut String) -> Result<bool, Error> {
///     let mut budget = Budget::tokens(16).time(Duration::from_millis(200));
///     while let Some(progress) = generator.next_within(&mut budget) {
///         match progress? {
///             Progress::Token(token) => text.push_str(&token.text),
///             _ => return Ok(true),
///         }
///     }
///     Ok(false)
/// }
/// ```
#[derive(Clone, Debug)]
pub struct Budget {
    tokens: usize,
    until: Option<Instant>,
    /// Whether nothing was computed yet. Something always is, so that small budgets get on, too.
    fresh: bool,
}

/// How far [`Generator::next_within`](crate::Generator::next_within) came.
///
/// ```
/// use polychord_session::Progress;
///
/// fn id(progress: &Progress) -> Option<u32> {
///     match progress {
///         Progress::Token(token) => Some(token.id),
///         _ => None,
///     }
/// }
/// # let _ = id;
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Progress {
    /// The next token.
    Token(Token),
    /// The budget is used up. The answer goes on with the next one.
    Paused,
}

impl Budget {
    /// As much as there is to compute.
    #[must_use]
    pub const fn unlimited() -> Self {
        Self { tokens: usize::MAX, until: None, fresh: true }
    }

    /// At most that many tokens are evaluated; one at least.
    #[must_use]
    pub const fn tokens(most: usize) -> Self {
        Self { tokens: if most == 0 { 1 } else { most }, ..Self::unlimited() }
    }

    /// Nothing is begun when that time is over, counted from now. The clock is looked at before each
    /// token, and within a long prompt before each batch, of which one at least is computed.
    ///
    /// Ranks that are elsewhere ([`SessionOptions::rank`](crate::SessionOptions::rank)) would see
    /// other times: give such sessions tokens alone.
    #[must_use]
    pub fn time(mut self, most: Duration) -> Self {
        // What the clock cannot express never comes.
        self.until = Instant::now().checked_add(most);
        self
    }

    /// How many tokens may be evaluated now.
    pub(super) fn left(&self) -> usize {
        let is_over = !self.fresh && self.until.is_some_and(|until| Instant::now() >= until);
        if is_over { 0 } else { self.tokens }
    }

    /// Whether the clock has to be looked at.
    pub(super) const fn is_timed(&self) -> bool {
        self.until.is_some()
    }

    /// Takes tokens that were evaluated.
    pub(super) const fn take(&mut self, tokens: usize) {
        self.tokens = self.tokens.saturating_sub(tokens);
        self.fresh = false;
    }
}

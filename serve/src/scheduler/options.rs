//! How answers share the machine.

use std::path::PathBuf;

use crate::error::{Error, Result};

/// How the answers of a model share the machine.
///
/// ```
/// use polychord_serve::scheduler::SchedulerOptions;
///
/// let options = SchedulerOptions::new().parallel(8).memory_bytes(4 << 30);
/// assert_eq!(options.parallel, 8);
/// ```
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct SchedulerOptions {
    /// Most answers that are computed at the same time, each in a session of its own; 4 by default.
    pub parallel: usize,
    /// Most answers that wait; 64 by default. What comes then is refused.
    pub waiting: usize,
    /// Most bytes that all sessions together have beside the weights; none by default. It lowers
    /// `parallel`.
    pub memory_bytes: Option<u64>,
    /// Most tokens of a prompt that are evaluated before the other answers get their next token;
    /// 64 by default.
    pub piece: usize,
    /// Most bytes of conversations that wait without a session, compressed; none are kept by default. A
    /// conversation whose session is given to another one is written there, and read when it goes on.
    pub idle_bytes: Option<u64>,
    /// Most bytes of receipts that are kept, the newest ones; no receipts are made by default. Making one takes a SHA-256
    /// of all logits of each token.
    pub receipt_bytes: Option<u64>,
    /// The folder of files without a name that have them; memory has them by default.
    pub idle_folder: Option<PathBuf>,
}

impl Default for SchedulerOptions {
    fn default() -> Self {
        Self {
            parallel: 4,
            waiting: 64,
            memory_bytes: None,
            piece: 64,
            idle_bytes: None,
            receipt_bytes: None,
            idle_folder: None,
        }
    }
}

impl SchedulerOptions {
    /// The defaults.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets the most answers that are computed at the same time; at least one is.
    #[must_use]
    pub const fn parallel(mut self, most: usize) -> Self {
        self.parallel = most;
        self
    }

    /// Sets the most answers that wait.
    #[must_use]
    pub const fn waiting(mut self, most: usize) -> Self {
        self.waiting = most;
        self
    }

    /// Sets the most bytes that all sessions together have beside the weights.
    #[must_use]
    pub fn memory_bytes(mut self, most: impl Into<Option<u64>>) -> Self {
        self.memory_bytes = most.into();
        self
    }

    /// Sets the most bytes of conversations that wait without a session.
    #[must_use]
    pub fn idle_bytes(mut self, most: impl Into<Option<u64>>) -> Self {
        self.idle_bytes = most.into();
        self
    }

    /// Sets the most bytes of receipts that are kept.
    #[must_use]
    pub fn receipt_bytes(mut self, most: impl Into<Option<u64>>) -> Self {
        self.receipt_bytes = most.into();
        self
    }

    /// Sets the folder of the files that have them.
    #[must_use]
    pub fn idle_folder(mut self, folder: impl Into<Option<PathBuf>>) -> Self {
        self.idle_folder = folder.into();
        self
    }

    /// Sets the most tokens of a prompt that are evaluated at once.
    #[must_use]
    pub const fn piece(mut self, tokens: usize) -> Self {
        self.piece = tokens;
        self
    }

    /// How many sessions fit into the memory that is set aside, at least one, each with this many bytes beside
    /// the weights and this many tokens of context.
    pub(crate) fn sessions_that_fit(&self, needed: u64, context: u32) -> Result<usize> {
        match self.memory_bytes {
            Some(budget) if budget < needed => Err(Error::Budget { needed, budget, context }),
            Some(budget) => Ok(usize::try_from(budget / needed.max(1)).unwrap_or(usize::MAX)),
            None => Ok(usize::MAX),
        }
    }

    /// Bytes of the memory that is set aside which this many sessions leave, each with `needed` bytes: for what
    /// they share. Sessions count as if they shared nothing, since each may write to all of its pages.
    pub(crate) const fn left_by(&self, sessions: usize, needed: u64) -> u64 {
        match self.memory_bytes {
            Some(budget) => budget.saturating_sub(needed.saturating_mul(sessions as u64)),
            None => u64::MAX,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Sessions and what they share never have more than was set aside.
    #[test]
    fn what_is_shared_is_what_sessions_leave() {
        for (budget, parallel, expected) in
            [(400, 4, (4, 0)), (450, 4, (4, 50)), (450, 2, (2, 250)), (150, 4, (1, 50))]
        {
            let options = SchedulerOptions::new().parallel(parallel).memory_bytes(budget);
            let sessions = parallel.min(options.sessions_that_fit(100, 8).unwrap());
            assert_eq!((sessions, options.left_by(sessions, 100)), expected);
        }
        assert!(SchedulerOptions::new().memory_bytes(99).sessions_that_fit(100, 8).is_err());
        assert_eq!(SchedulerOptions::new().left_by(4, 100), u64::MAX);
    }
}

//! What a caller decides about one answer.

use std::time::Duration;

use polychord_model::Sampling;

use crate::generate::cancel::CancelHandle;

/// How to generate one answer: how tokens are chosen, and what ends it.
///
/// By default the best token is taken each time ([`Sampling::greedy`]), until the model ends its
/// answer or the context is full.
///
/// ```
/// use std::time::Duration;
///
/// use polychord_model::Sampling;
/// use polychord_session::{CancelHandle, GenerateOptions};
///
/// let cancel = CancelHandle::new();
/// let options = GenerateOptions::new()
///     .sampling(Sampling::new().temperature(0.7).seed(1))
///     .max_tokens(200)
///     .stop(["\n\n", "User:"])
///     .deadline(Duration::from_secs(20))
///     .cancel(&cancel);
/// # let _ = options;
/// ```
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct GenerateOptions {
    /// How tokens are chosen.
    pub sampling: Sampling,
    /// Most tokens of the answer; none for as many as the context has room for.
    pub max_tokens: Option<usize>,
    /// Texts that end the answer, and are no part of it.
    pub stop: Vec<String>,
    /// Longest time for the answer, with the evaluation of its prompt; none by default.
    pub deadline: Option<Duration>,
    /// Ends the answer from elsewhere.
    pub cancel: Option<CancelHandle>,
}

impl Default for GenerateOptions {
    fn default() -> Self {
        Self {
            sampling: Sampling::greedy(),
            max_tokens: None,
            stop: Vec::new(),
            deadline: None,
            cancel: None,
        }
    }
}

impl GenerateOptions {
    /// The best token each time, until the model ends its answer.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets how tokens are chosen.
    #[must_use]
    pub const fn sampling(mut self, sampling: Sampling) -> Self {
        self.sampling = sampling;
        self
    }

    /// Sets the most tokens of the answer.
    #[must_use]
    pub fn max_tokens(mut self, most: impl Into<Option<usize>>) -> Self {
        self.max_tokens = most.into();
        self
    }

    /// Sets the texts that end the answer. The one that comes is no part of it, and text that
    /// could be the beginning of one is held back until it is clear.
    #[must_use]
    pub fn stop<T: Into<String>>(mut self, texts: impl IntoIterator<Item = T>) -> Self {
        self.stop = texts.into_iter().map(Into::into).collect();
        self
    }

    /// Sets the longest time for the answer, counted from when it begins, prompt included.
    ///
    /// The clock is looked at before each token, and within a long prompt before each batch, so
    /// an answer may take longer by one batch (eight, where layers are paged). A call of the guest is never interrupted by it:
    /// that is what [`SessionOptions::call_time`](crate::SessionOptions::call_time) does.
    #[must_use]
    pub fn deadline(mut self, most: impl Into<Option<Duration>>) -> Self {
        self.deadline = most.into();
        self
    }

    /// Sets the handle that ends the answer from elsewhere, as promptly as
    /// [`deadline`](Self::deadline) does. Text that is held back then is not delivered.
    #[must_use]
    pub fn cancel(mut self, handle: &CancelHandle) -> Self {
        self.cancel = Some(handle.clone());
        self
    }
}

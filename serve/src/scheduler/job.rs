//! What is asked for, and what comes back.

use std::time::Instant;

use polychord_model::Sampling;
use polychord_receipts::Digest;
use polychord_session::{ErrorKind, Finish};

use super::grammar::Constraint;

/// A sequence that is to be continued.
///
/// ```
/// use polychord_model::Sampling;
/// use polychord_serve::scheduler::Job;
///
/// let job = Job::new([1, 2, 3])
///     .sampling(Sampling::new().seed(7))
///     .max_tokens(100)
///     .stop(["\n\n"])
///     .user("ann");
/// assert_eq!(job.prompt, [1, 2, 3]);
/// ```
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Job {
    /// The tokens that are continued.
    pub prompt: Vec<u32>,
    /// How tokens are chosen.
    pub sampling: Sampling,
    /// What is added to the logits of some tokens.
    pub logit_bias: Vec<(u32, f32)>,
    /// Most tokens of the answer; none for as many as the context has room for.
    pub max_tokens: Option<usize>,
    /// Texts that end the answer, and are no part of it.
    pub stop: Vec<String>,
    /// With each token comes its probability and this many of the best.
    pub logprobs: Option<usize>,
    /// What the answer is held to.
    pub constraint: Option<Constraint>,
    /// Who asks: users take their places in turn.
    pub user: String,
    /// When the answer ends at the latest.
    pub deadline: Option<Instant>,
}

impl Job {
    /// The best token each time, until the model ends its answer or the context is full.
    pub fn new(prompt: impl Into<Vec<u32>>) -> Self {
        Self {
            prompt: prompt.into(),
            sampling: Sampling::greedy(),
            logit_bias: Vec::new(),
            max_tokens: None,
            stop: Vec::new(),
            logprobs: None,
            constraint: None,
            user: String::new(),
            deadline: None,
        }
    }

    /// Sets how tokens are chosen.
    #[must_use]
    pub const fn sampling(mut self, sampling: Sampling) -> Self {
        self.sampling = sampling;
        self
    }

    /// Sets what is added to the logits of some tokens.
    #[must_use]
    pub fn logit_bias(mut self, bias: impl IntoIterator<Item = (u32, f32)>) -> Self {
        self.logit_bias = bias.into_iter().collect();
        self
    }

    /// Sets the most tokens of the answer.
    #[must_use]
    pub fn max_tokens(mut self, most: impl Into<Option<usize>>) -> Self {
        self.max_tokens = most.into();
        self
    }

    /// Sets the texts that end the answer.
    #[must_use]
    pub fn stop<T: Into<String>>(mut self, texts: impl IntoIterator<Item = T>) -> Self {
        self.stop = texts.into_iter().map(Into::into).collect();
        self
    }

    /// Sets how many of the best tokens are told with each token.
    #[must_use]
    pub fn logprobs(mut self, count: impl Into<Option<usize>>) -> Self {
        self.logprobs = count.into();
        self
    }

    /// Sets what the answer is held to.
    #[must_use]
    pub fn constraint(mut self, constraint: impl Into<Option<Constraint>>) -> Self {
        self.constraint = constraint.into();
        self
    }

    /// Sets who asks.
    #[must_use]
    pub fn user(mut self, name: impl Into<String>) -> Self {
        self.user = name.into();
        self
    }

    /// Sets when the answer ends at the latest.
    #[must_use]
    pub fn deadline(mut self, at: impl Into<Option<Instant>>) -> Self {
        self.deadline = at.into();
        self
    }
}

/// What comes of a [`Job`]: tokens, and then one of the others.
///
/// ```
/// use polychord_serve::scheduler::Event;
///
/// fn is_last(event: &Event) -> bool {
///     !matches!(event, Event::Token(_))
/// }
/// # let _ = is_last;
/// ```
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Event {
    /// A token was generated.
    Token(TokenEvent),
    /// The answer has ended.
    End {
        /// Why.
        finish: Finish,
        /// How many tokens it took.
        usage: Usage,
        /// The digest of its receipt, if there is one ([`Scheduler::receipt`](super::Scheduler::receipt)).
        receipt: Option<Digest>,
    },
    /// The answer cannot go on.
    Failed {
        /// What a program can do about it.
        kind: ErrorKind,
        /// What went wrong.
        message: String,
    },
}

/// One token of an answer.
///
/// ```
/// use polychord_serve::scheduler::TokenEvent;
///
/// fn show(token: &TokenEvent) -> String {
///     format!("{}: {:?}", token.id, token.text)
/// }
/// # let _ = show;
/// ```
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct TokenEvent {
    /// Its id.
    pub id: u32,
    /// Text that is complete with it; empty while a stop text may have begun.
    pub text: String,
    /// How probable it was, if that was asked for.
    pub logprobs: Option<TokenLogprobs>,
}

/// How probable a token was, and which ones were the best.
///
/// ```
/// use polychord_serve::scheduler::TokenLogprobs;
///
/// fn is_best(it: &TokenLogprobs) -> bool {
///     it.top.first().is_some_and(|best| best.id == it.chosen.id)
/// }
/// # let _ = is_best;
/// ```
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct TokenLogprobs {
    /// The token that was chosen.
    pub chosen: Logprob,
    /// The best tokens, the best first.
    pub top: Vec<Logprob>,
}

/// The natural logarithm of a token's probability, before any penalty, bias or temperature.
///
/// ```
/// use polychord_serve::scheduler::Logprob;
///
/// fn probability(it: &Logprob) -> f64 {
///     it.logprob.exp()
/// }
/// # let _ = probability;
/// ```
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Logprob {
    /// Its id.
    pub id: u32,
    /// The bytes that it stands for.
    pub bytes: Vec<u8>,
    /// The logarithm.
    pub logprob: f64,
}

/// How many tokens an answer took.
///
/// ```
/// use polychord_serve::scheduler::Usage;
///
/// let usage = Usage::default();
/// assert_eq!(usage.prompt + usage.generated, 0);
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Usage {
    /// Tokens of the prompt.
    pub prompt: usize,
    /// Of these, tokens that a session had seen already.
    pub cached: usize,
    /// Tokens of the answer, with one that ends it.
    pub generated: usize,
}

//! Why an answer ended.

use std::fmt;

/// Why an answer ended.
///
/// ```
/// use polychord_session::Finish;
///
/// fn is_whole(finish: &Finish) -> bool {
///     matches!(finish, Finish::EndOfText | Finish::Stop(_))
/// }
/// assert!(is_whole(&Finish::EndOfText) && !is_whole(&Finish::ContextFull));
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Finish {
    /// The model ended it.
    EndOfText,
    /// It has as many tokens as were asked for.
    MaxTokens,
    /// This stop text came, which is no part of the answer.
    Stop(String),
    /// There is no room for another token, or from the first none for the prompt: shorten the
    /// conversation or start the session with a longer context.
    ContextFull,
    /// It was cancelled.
    Cancelled,
    /// Its time is over.
    Deadline,
}

impl fmt::Display for Finish {
    /// Its name, such as `max_tokens`, without the stop text.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::EndOfText => "end_of_text",
            Self::MaxTokens => "max_tokens",
            Self::Stop(_) => "stop",
            Self::ContextFull => "context_full",
            Self::Cancelled => "cancelled",
            Self::Deadline => "deadline",
        })
    }
}

//! Why an answer ended.

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

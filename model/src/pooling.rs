//! What is left of a sequence as one vector.

use polychord_plan::named;

/// What is left of the rows of a sequence, in models that are made for that:
/// `{architecture}.pooling_type`.
///
/// ```
/// use polychord_model::Pooling;
///
/// assert_eq!("mean".parse(), Ok(Pooling::Mean));
/// assert_eq!(Pooling::First.to_string(), "cls");
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Pooling {
    /// Their mean.
    Mean,
    /// The first one.
    First,
    /// The last one.
    Last,
}

named!(Pooling, "pooling", {
    Mean = "mean": "The mean of all tokens",
    First = "cls": "The first token",
    Last = "last": "The last token",
});

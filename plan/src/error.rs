//! Errors of plans.

use crate::Printable;

/// The result of making, reading or checking a plan.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Errors of making, reading and checking plans. Sizes are in bytes.
///
/// ```
/// use polychord_plan::{Error, Plan};
///
/// let error = Plan::from_json("{}").unwrap_err();
/// assert!(matches!(error, Error::InvalidPlan { .. }));
/// println!("{error}");
/// ```
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A plan does not hold together.
    #[error("the plan is not valid: {}", Printable(reason))]
    InvalidPlan {
        /// What is wrong, with the numbers.
        reason: String,
    },
    /// Something that has to be in one guest or memory is larger than that may be.
    #[error(
        "{} of {asked} bytes is more than the {limit} bytes that {} allows",
        Printable(what),
        Printable(limited_by)
    )]
    TooLarge {
        /// What was asked for.
        what: String,
        /// Its size.
        asked: u64,
        /// The most that is possible.
        limit: u64,
        /// Who or what sets the limit.
        limited_by: String,
    },
}

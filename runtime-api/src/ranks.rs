//! Guests that compute together, and how their ranks exchange what each has computed.
//!
//! - [`Rank`] is one participant: it bounds the time of waiting, and lets the first failure stop
//!   all ranks.
//! - [`Transport`] is how a rank reaches the others. [`Threads`] is the one for ranks that are
//!   threads of this process; [`Rank::over`] takes any other.

mod barrier;
mod messages;
mod rank;
mod subgroup;
#[cfg(test)]
mod tests;
mod threads;
mod transport;
mod within;

pub use self::rank::Rank;
pub(crate) use self::rank::check_chunk;
pub use self::threads::Threads;
pub use self::transport::{Deadline, Failure, Traffic, Transport};

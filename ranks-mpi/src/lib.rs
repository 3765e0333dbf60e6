//! Ranks in several processes that compute one network together.
//!
//! A [`Mesh`] is the [`Transport`](polychord_runtime_api::ranks::Transport) of a rank that reaches each
//! other one over a [`Wire`], which only has to carry messages. The mesh does the rest:
//!
//! - **Exchanges.** What a rank brings goes to all others in one message; receiving never waits for a
//!   sender, and sending never for a receiver.
//! - **Trust.** Each message says what its sender does, with all sizes. A length that this rank does not
//!   expect is an error, whatever the sender says, and nothing is allocated for it.
//! - **Failure.** Each rank is heard of several times a second, also while its guest computes. One that is
//!   not heard of for [`Patience::silence`] has failed, and all others end with its number.
//!
//! With the feature `mpi` there is a wire over MPI, by `rsmpi`: see `World`.

mod mesh;
mod message;
#[cfg(feature = "mpi")]
mod mpi;
mod pace;
mod slow;
#[cfg(test)]
mod tests;
mod wire;

pub use mesh::{Mesh, Patience};
pub use message::MOST;
#[cfg(feature = "mpi")]
pub use mpi::{Unavailable, World};
pub use slow::{Link, Slow};
pub use wire::{Broken, Wire};

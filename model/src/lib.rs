//! Language models for Polychord: from a GGUF file to text.
//!
//! [`Model`] is a file, of which only the header is read; [`Transformer`] is the guest that
//! computes, compiled for one engine; a [`Session`] is the model loaded into guests, as its
//! [`Placement`] says, with the tokens that it has seen; and a [`Generation`] continues them.
//!
//! Everything here runs on the host and knows no engine; the network itself is computed by
//! the guest alone.

pub mod chat;
pub mod config;
pub mod gguf;
pub mod sampler;
pub mod tokenizer;

mod activations;
mod arch;
mod cache_type;
mod descriptor;
mod error;
mod generation;
mod layout;
mod model;
mod pipeline;
mod placement;
mod profile;
mod ranks;
mod session;
mod shard;
mod transformer;

pub use activations::Activations;
pub use cache_type::CacheType;
pub use error::{Error, Result};
pub use generation::{Generation, Token};
pub use model::Model;
pub use placement::{Placed, Placement, Split};
pub use profile::{Phases, Profile};
pub use ranks::Ranks;
pub use sampler::Sampling;
pub use session::{LoadReport, Logits, Session, SessionOptions};
pub use transformer::{Guest, Transformer};

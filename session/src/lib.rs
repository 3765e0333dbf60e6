//! Running language models: from a GGUF file to text, in WebAssembly guests.
//!
//! [`Model`] is a file, of which only the header is read; [`Transformer`] is the guest that
//! computes, compiled for one engine; a [`Session`] is the model loaded into guests, as its
//! [`Placement`] says, with the tokens that it has seen; and a [`Generation`] continues them.
//!
//! Everything here runs on the host and knows no engine; the network itself is computed by
//! the guest alone. `polychord-model` has what needs no host: headers, tokenizers, sampling.

mod build;
mod error;
mod generation;
mod header;
mod load_report;
mod model;
mod options;
mod pipeline;
mod placement;
mod profile;
mod session;
mod setup;
mod shard;
mod team;
mod transformer;

pub use build::SimdFlavor;
pub use error::{Error, Result};
pub use generation::{Generation, Token};
pub use header::{header_of, read_header};
pub use load_report::LoadReport;
pub use model::Model;
pub use options::{Placement, PlacementKind, Ranks, SessionOptions, Split, UnknownRanks};
pub use placement::Placed;
pub use profile::{Phases, Profile};
pub use session::{Logits, Session};
pub use transformer::Transformer;

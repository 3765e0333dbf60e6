//! Running language models: from a GGUF file to text, in WebAssembly guests.
//!
//! [`Model`] is a file, of which only the header is read; [`Transformer`] is the guest that
//! computes, compiled for one engine; a [`Session`] is the model loaded into guests, as its
//! [`Placement`] says, with the tokens that it has seen.
//!
//! Text comes from one of three: a [`Chat`] keeps the turns of a conversation, a [`Generator`]
//! continues any text, and a [`Generation`] does so for a session that it borrows. The first two
//! own their session and know stop texts, deadlines and cancelling ([`GenerateOptions`]).
//!
//! ```no_run
//! use std::sync::Arc;
//!
//! use polychord_runtime_api::Engine;
//! use polychord_session::{Chat, Error, GenerateOptions, Model, SessionOptions, Transformer};
//!
//! // `polychord::open("wasmtime")` gives such an engine.
//! fn run(engine: &Arc<dyn Engine>) -> Result<(), Error> {
//!     let model = Model::open("model.gguf")?;
//!     let session = Transformer::new(engine)?.start(&model, &SessionOptions::new())?;
//!     let mut chat = Chat::new(session)?;
//!     chat.user("What is the capital of France?")?;
//!     for token in chat.answer(&GenerateOptions::new().max_tokens(100))? {
//!         print!("{}", token?.text);
//!     }
//!     Ok(())
//! }
//! ```
//!
//! Everything here runs on the host and knows no engine; the network itself is computed by
//! the guest alone. `polychord-model` has what needs no host: headers, tokenizers, sampling.

mod answer;
mod build;
mod cancel;
mod chat;
mod error;
mod finish;
mod generate_options;
mod generation;
mod generator;
mod header;
mod load_report;
mod model;
mod options;
mod pipeline;
mod placement;
mod profile;
mod rank_pool;
mod session;
mod setup;
mod shard;
mod stats;
mod stop_texts;
mod transformer;

pub use build::SimdFlavor;
pub use cancel::CancelHandle;
pub use chat::{Chat, ChatAnswer};
pub use error::{Error, ErrorKind, Result};
pub use finish::Finish;
pub use generate_options::GenerateOptions;
pub use generation::{Generation, Token};
pub use generator::Generator;
pub use header::{header_of, read_header};
pub use load_report::LoadReport;
pub use model::Model;
pub use options::{Placement, PlacementKind, Ranks, SessionOptions, Split, UnknownRanks};
pub use placement::Placed;
pub use profile::{Phases, Profile};
pub use session::{Logits, Session};
pub use stats::{GuestStats, SessionStats};
pub use transformer::Transformer;

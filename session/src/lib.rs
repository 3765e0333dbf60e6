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
//! What an embedder needs is at the root. The modules group it:
//!
//! | module | has |
//! | --- | --- |
//! | [`generate`] | conversations, continuations, and what ends them |
//! | [`options`] | what a caller decides about a session |
//! | [`placement`] | which guests hold which layers |
//! | [`stats`] | loading, counters, time |
//!
//! Everything here runs on the host and knows no engine; the network itself is computed by
//! the guest alone. `polychord-model` has what needs no host: headers, tokenizers, sampling.

pub mod generate;
pub mod options;
pub mod placement;
pub mod stats;

mod batch;
mod build;
mod caches;
mod calls;
mod digests;
mod embed;
mod error;
mod evaluate;
mod files;
mod flow;
mod fork;
mod header;
mod lead;
mod logits;
mod model;
mod paged;
mod pipeline;
mod prefix;
mod rank_pool;
mod session;
mod setup;
mod shard;
mod shared;
mod snapshot;
mod stages;
mod terms;
mod touch;
mod transformer;
mod values;
mod verify;

pub use batch::Batch;
pub use build::SimdFlavor;
pub use digests::{sampling_by_name, sampling_of};
pub use embed::EmbedOptions;
pub use error::{Error, ErrorKind, Result};
pub use evaluate::Evaluate;
pub use files::{open_source, open_source_mapped};
pub use flow::Flow;
pub use generate::{
    Budget, CancelHandle, Chat, ChatAnswer, Finish, GenerateOptions, Generation, Generator,
    Progress, Token,
};
pub use header::{header_of, read_header};
pub use logits::Logits;
pub use model::Model;
pub use options::{
    MultiSplit, Placement, PlacementKind, Ranks, SessionOptions, ShardSplit, Split, Stage,
    TouchAhead, UnknownRanks, UnknownTouchAhead,
};
pub use placement::Placed;
pub use polychord_model::Pooling;
pub use polychord_runtime_api::ImageRoom;
pub use session::Session;
pub use snapshot::{Restored, SaveOptions};
pub use stats::{ExpertStats, GuestStats, LoadReport, Phases, Profile, SessionStats, TouchReport};
pub use transformer::Transformer;
pub use verify::{Verdict, Verifier};

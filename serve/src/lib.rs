//! An OpenAI-compatible server: many conversations, each in a sandbox of its own, over one copy of
//! the weights.
//!
//! - [`Scheduler`] advances the answers of one model together: they join and leave between tokens,
//!   long prompts are cut into pieces, and what a session has seen is not computed again. It knows
//!   nothing of HTTP.
//! - [`Server`] is the HTTP API over one scheduler for each model: `/v1/chat/completions` and the
//!   rest of what `docs/serve.md` lists.
//!
//! ```no_run
//! use std::sync::Arc;
//!
//! use polychord_serve::{Server, ServerOptions};
//! use polychord_session::{Model, SessionOptions, Transformer};
//!
//! async fn serve(transformer: Arc<Transformer>) -> Result<(), polychord_serve::Error> {
//!     let load = move || Ok((transformer.clone(), Model::open("model.gguf")?, SessionOptions::new()));
//!     let server = Server::new(ServerOptions::new()).model("my-model", load);
//!     server.run(std::future::pending()).await
//! }
//! ```
//!
//! The same request with the same seed gives the same text, whatever else runs: each answer is
//! computed by the guest of its own session, and what is computed together has the same bits.

mod embedder;
mod error;
mod http;
mod metrics;
mod options;
pub mod scheduler;
mod tools;

pub use error::{Error, Result};
pub use http::Server;
#[cfg(fuzzing)]
pub use http::fuzzing;
pub use options::ServerOptions;
pub use scheduler::Scheduler;

//! GGUF models as data: from the bytes of a file to what a guest is told, and from logits to text.
//!
//! - [`gguf`] reads the header of a file, [`config`] the shape of the network in it.
//! - [`layout`] cuts the file into layers, [`descriptor`] describes the network to the guest, and
//!   [`demand`] says what it needs beside its weights, [`placing`] in how many guests all of it fits.
//! - [`tokenizer`] turns text into tokens and back, [`chat`] a conversation into text.
//! - [`sampler`] chooses the next token from logits.
//!
//! Nothing here opens a file, maps memory or knows an engine, so that it also runs on
//! `wasm32-unknown-unknown`; [`chat`] says what it does there without a clock and threads.
//! `polychord-session` runs these models.

pub mod chat;
pub mod config;
pub mod demand;
pub mod descriptor;
pub mod families;
pub mod gguf;
pub mod layout;
pub mod placing;
pub mod sampler;
pub mod tokenizer;

mod activations;
mod arch;
mod cache_type;
mod error_kind;
mod network;
mod pooling;

pub use activations::Activations;
pub use cache_type::{CacheType, UnevenRow};
pub use error_kind::ErrorKind;
pub use pooling::Pooling;
pub use sampler::Sampling;

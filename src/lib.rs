//! One WebAssembly guest, many engines.
//!
//! Polychord runs large-memory WebAssembly guests, first of all the inference of language
//! models, on Wasmer, Wasmtime and WasmEdge behind one set of traits, with the same results to
//! the last bit.
//!
//! This crate selects engines by cargo feature and re-exports the rest:
//!
//! - [`open`] opens an engine by name; [`api`] has the traits that all engines share.
//! - [`model`] runs GGUF models in the transformer guest.
//! - [`hub`] fetches models into a cache (feature `hub`).
//!
//! `examples/generate.rs` generates text; `examples/host_api.rs` gives weights to a guest of
//! one's own. The first one:
//!
//! ```no_run
//! use polychord::model::tokenizer::SpecialTokens;
//! use polychord::model::{Generation, Model, Sampling, SessionOptions, Transformer};
//!
//! fn main() -> Result<(), Box<dyn std::error::Error>> {
//!     let path = std::env::args().nth(1).ok_or("usage: generate MODEL.gguf")?;
//!     let engine = polychord::open("wasmer")?;
//!     let model = Model::open(path)?;
//!     let mut session = Transformer::new(&engine)?.start(&model, &SessionOptions::default())?;
//!     let tokenizer = model.tokenizer()?;
//!     let prompt = tokenizer.encode_prompt("The capital of France is", SpecialTokens::Parse)?;
//!     for token in Generation::new(&mut session, tokenizer, &prompt, &Sampling::greedy(), 32)? {
//!         print!("{}", token?.text);
//!     }
//!     Ok(())
//! }
//! ```

mod engines;

/// GGUF models: headers, tokenizers, chat templates and sampling, and the sessions that run them.
pub mod model {
    pub use polychord_model::{
        Activations, CacheType, Sampling, chat, config, descriptor, gguf, layout, sampler,
        tokenizer,
    };
    pub use polychord_session::*;
}

pub use engines::{
    Choice, ENGINES, EngineEntry, EngineOptions, OpenError, Variant, available, default_engine,
    entry, open,
};
#[cfg(feature = "wasmedge")]
pub use polychord_backend_wasmedge as wasmedge;
#[cfg(feature = "wasmer")]
pub use polychord_backend_wasmer as wasmer;
#[cfg(feature = "wasmtime")]
pub use polychord_backend_wasmtime as wasmtime;
#[cfg(feature = "hub")]
pub use polychord_hub as hub;
pub use polychord_runtime_api as api;

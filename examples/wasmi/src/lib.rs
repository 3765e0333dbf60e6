//! Polychord on [wasmi](https://docs.rs/wasmi), an interpreter in Rust: the whole of what a
//! vendor writes to add an engine. `docs/vendors.md` goes through it step by step.
//!
//! - `engine`: what the engine can do, and how it compiles.
//! - `runtime`: an instance, its memory and its host functions.
//! - `error`: the engine's errors as Polychord's.

mod engine;
mod error;
mod runtime;

pub use engine::WasmiEngine;

/// Name of the engine in capabilities, errors and cargo features.
const NAME: &str = "wasmi";

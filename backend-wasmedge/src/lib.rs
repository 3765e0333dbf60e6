//! Polychord on [WasmEdge](https://docs.rs/wasmedge-sdk).
//!
//! [`WasmEdgeEngine`] implements [`Engine`](polychord_runtime_api::spi::Engine), compiling ahead of
//! time or interpreting, as its [`Mode`] says. Needs the library libwasmedge 0.17.1;
//! docs/wasmedge.md says how to have it, and what is refused and why.
//!
//! Compiled code takes over the signals SIGSEGV, SIGBUS and SIGFPE of the process whenever it
//! runs, so it cannot share a process with an engine that catches traps by these signals:
//! [`claim_signals`](polychord_runtime_api::spi::claim_signals) refuses whichever comes second.

mod aot;
mod engine;
mod error;
mod executor;
mod handlers;
mod imports;
mod keeper;
mod memory;
mod runtime;
mod shape;
mod turn;

pub use aot::run_compiler;
pub use engine::{Config, Mode, WasmEdgeEngine};
pub use polychord_runtime_api::spi::CompilerCommand;

/// Name of the engine in capabilities, errors and cargo features.
const NAME: &str = "wasmedge";

//! Polychord on [WasmEdge](https://docs.rs/wasmedge-sdk).
//!
//! [`WasmEdgeEngine`] implements [`Engine`](polychord_runtime_api::Engine), compiling ahead of
//! time or interpreting, as its [`Mode`] says. Needs the library libwasmedge 0.17.1;
//! docs/wasmedge.md says how to install it, and what is refused and why.
//!
//! Compiled code takes over the signals SIGSEGV, SIGBUS and SIGFPE of the process whenever it
//! runs, so it cannot share a process with an engine that catches traps by these signals:
//! [`claim_signals`](polychord_runtime_api::spi::claim_signals) refuses the one that comes second.

mod aot;
mod compile_lock;
mod config;
mod engine;
mod error;
mod executor;
mod guest;
mod handlers;
mod imports;
mod instance;
mod keeper;
mod live;
mod memory;
mod module;
mod shape;
mod values;

pub use aot::run_compiler;
pub use config::{Config, Mode};
pub use engine::WasmEdgeEngine;
pub use polychord_runtime_api::spi::CompilerCommand;

/// Name of the engine in capabilities, errors and cargo features.
const NAME: &str = "wasmedge";

/// The version of WasmEdge that this crate is made for.
const VERSION: &str = "0.17.1";

//! Polychord on [Wasmtime](https://docs.rs/wasmtime).
//!
//! [`WasmtimeEngine`] implements [`Engine`](polychord_runtime_api::spi::Engine); the rest
//! translates between the two interfaces and decides nothing.

mod code;
mod config;
mod engine;
mod error;
mod function;
mod guest;
mod imports;
mod isolated;
mod live;
mod memory;
mod module;
mod values;

pub use engine::WasmtimeEngine;
pub use isolated::run_compiler;

/// Name of the engine in capabilities, errors and cargo features.
const NAME: &str = "wasmtime";

//! Polychord on [Wasmer](https://docs.rs/wasmer).
//!
//! [`WasmerEngine`] implements [`Engine`](polychord_runtime_api::spi::Engine); the rest
//! translates between the two interfaces and decides nothing. Guests are compiled by Cranelift, or
//! by LLVM, as its [`Compiler`] says.

mod code;
mod config;
mod engine;
mod error;
mod function;
mod guest;
mod imports;
mod isolated;
mod limits;
mod live;
mod memory;
mod module;
mod typed;
mod values;

pub use config::Compiler;
pub use engine::WasmerEngine;
pub use isolated::run_compiler;

/// Name of the engine in capabilities, errors and cargo features.
const NAME: &str = "wasmer";

//! placeholder

pub mod config;
pub mod gguf;
pub mod tokenizer;

//! What the tests of both modes share.
#![allow(dead_code, reason = "each test program uses its part")]

use std::sync::Arc;

use polychord_backend_wasmedge::{Config, Mode, WasmEdgeEngine};
use polychord_runtime_api::{Engine, Error, Limits, Module, Result, Runtime, TrapKind, Value};

pub fn wasm(wat: &str) -> Vec<u8> {
    wat::parse_str(wat).unwrap()
}

/// An engine with a cache of its own, which lives as long as the folder.
pub fn engine(mode: Mode, folder: &tempfile::TempDir) -> WasmEdgeEngine {
    let cache = Some(folder.path().join("aot"));
    WasmEdgeEngine::with_config(Config { mode, cache, ..Config::default() }).unwrap()
}

pub fn start(engine: &dyn Engine, wat: &str, limits: &Limits) -> Result<Box<dyn Runtime>> {
    engine.compile(&wasm(wat))?.instantiate(limits)
}

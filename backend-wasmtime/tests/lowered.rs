//! 64-bit memories of the engine's own and lowered ones, which do the same.
#![allow(clippy::unwrap_used, reason = "tests")]

use std::sync::Arc;

use polychord_backend_wasmtime::WasmtimeEngine;
use polychord_conformance::spec;
use polychord_runtime_api::{
    Capabilities, Engine, Error, Memory64, Memory64Choice, Module, ModuleLimits, Result,
};

/// Wasmtime as if it had no 64-bit memories.
#[derive(Debug)]
struct Lowered(WasmtimeEngine, Arc<Capabilities>);

impl Lowered {
    fn new() -> Self {
        let engine = WasmtimeEngine::new().unwrap();
        let mut capabilities = Capabilities::clone(engine.capabilities());
        capabilities.memory64 = Memory64::LOWERED;
        Self(engine, Arc::new(capabilities))
    }
}

impl Engine for Lowered {
    fn capabilities(&self) -> &Arc<Capabilities> {
        &self.1
    }

    fn compile_within(&self, wasm: &[u8], limits: &ModuleLimits) -> Result<Arc<dyn Module>> {
        self.0.compile_within(wasm, &limits.clone().memory64(Memory64Choice::Lowered))
    }
}

/// `POLYCHORD_WRITE_OUTCOMES` names a file that the outcomes are written to, for another version of the
/// tests.
#[test]
fn native_memories_do_what_the_official_tests_say() {
    let engine = WasmtimeEngine::new().unwrap();
    if let Some(path) = std::env::var_os("POLYCHORD_WRITE_OUTCOMES") {
        let suites =
            spec::SUITES.iter().filter(|it| ["memory64", "multi-memory"].contains(&it.name));
        let outcomes: String = suites.map(|suite| suite.outcomes(&engine)).collect();
        std::fs::write(path, outcomes).unwrap();
    }
    let outcomes = spec::check_memory64(&engine);
    assert!(outcomes.is_ok(), "{}", outcomes.unwrap_err());
}

#[test]
fn lowered_memories_do_what_native_ones_do() {
    let outcomes = spec::check_memory64(&Lowered::new());
    assert!(outcomes.is_ok(), "{}", outcomes.unwrap_err());
}

/// What cannot be lowered says why.
#[test]
fn what_cannot_be_lowered_is_refused_with_the_reason() {
    for (wat, says) in [
        ("(module (memory i64 2000000))", "131072000000 bytes"),
        ("(module (memory (export \"m\") i64 1) (func (export \"m.1\")))", "m.1"),
    ] {
        let error = Lowered::new().compile(&wat::parse_str(wat).unwrap()).err().unwrap();
        assert!(matches!(error, Error::Compile { engine: "wasmtime", .. }), "{error}");
        assert!(error.to_string().contains(says), "{error}");
    }
}

//! An engine that can do less than the three that there are: what it lacks is refused where it is asked
//! for, and the suite notices an engine that does not refuse.
#![allow(clippy::unwrap_used, reason = "tests")]

use std::sync::Arc;

use polychord_backend_wasmtime::WasmtimeEngine;
use polychord_conformance::{Case, all};
use polychord_runtime_api::{
    Capabilities, Engine, Module, ModuleInfo, ModuleLimits, Requirements, Result, spi,
};

/// Wasmtime, of which a backend says that its guests cannot be called within their calls.
#[derive(Debug)]
struct Once {
    inner: WasmtimeEngine,
    capabilities: Arc<Capabilities>,
}

impl Once {
    fn new() -> Self {
        let inner = WasmtimeEngine::new().unwrap();
        let mut capabilities = (**spi::Engine::capabilities(&inner)).clone();
        capabilities.reentrance = false;
        Self { inner, capabilities: Arc::new(capabilities) }
    }
}

impl spi::Engine for Once {
    fn capabilities(&self) -> &Arc<Capabilities> {
        &self.capabilities
    }

    fn translate(&self, wasm: &[u8], info: Arc<ModuleInfo>) -> Result<Arc<dyn spi::Module>> {
        self.inner.translate(wasm, info)
    }
}

/// The same claim, and no refusal: it lets such calls through.
#[derive(Debug)]
struct LetsThrough(Once);

impl Engine for LetsThrough {
    fn capabilities(&self) -> &Arc<Capabilities> {
        &self.0.capabilities
    }

    fn compile_within(&self, wasm: &[u8], limits: &ModuleLimits) -> Result<Arc<dyn Module>> {
        self.0.inner.compile_within(wasm, limits)
    }
}

/// Cases that need what the engine lacks.
fn cases() -> Vec<Case> {
    let needs = |case: &Case| {
        let needs: &Requirements = &case.needs;
        needs.reentrance
    };
    all().into_iter().filter(needs).collect()
}

#[test]
fn calls_within_calls_are_refused_where_they_are_not_possible() {
    let engine = Once::new();
    let cases = cases();
    assert!(cases.len() >= 4, "{}", cases.len());
    for case in cases {
        case.check(&engine).unwrap_or_else(|failure| panic!("{}: {failure}", case.name));
    }
}

#[test]
fn an_engine_that_does_not_refuse_is_noticed() {
    let engine = LetsThrough(Once::new());
    for case in cases() {
        let error = case.check(&engine).unwrap_err();
        assert!(error.to_string().contains("refused"), "{}: {error}", case.name);
    }
}

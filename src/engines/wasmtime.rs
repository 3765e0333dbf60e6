//! Wasmtime.

use super::entry::{Backend, EngineEntry};

pub(super) const ENTRY: EngineEntry =
    EngineEntry { name: "wasmtime", choice: None, always_isolates: false, backend: BACKEND };

#[cfg(not(feature = "wasmtime"))]
const BACKEND: Option<Backend> = None;

#[cfg(feature = "wasmtime")]
const BACKEND: Option<Backend> =
    Some(Backend { open, compile: polychord_backend_wasmtime::run_compiler });

#[cfg(feature = "wasmtime")]
fn open(opening: super::entry::Opening<'_>) -> super::entry::Opened {
    let mut engine = polychord_backend_wasmtime::WasmtimeEngine::new()?;
    if let Some(compiler) = opening.compiler {
        engine = engine.isolate(compiler.clone());
    }
    if let Some(cache) = opening.cache {
        engine = engine.with_cache(cache.clone());
    }
    Ok(std::sync::Arc::new(engine))
}

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
fn open(
    _variant: Option<&str>,
    compiler: Option<&polychord_runtime_api::spi::CompilerCommand>,
) -> super::entry::Opened {
    let engine = polychord_backend_wasmtime::WasmtimeEngine::new()?;
    Ok(match compiler {
        Some(compiler) => std::sync::Arc::new(engine.isolate(compiler.clone())),
        None => std::sync::Arc::new(engine),
    })
}

//! Wasmer, the default.

use super::entry::{Backend, Choice, EngineEntry, Variant};

pub(super) const ENTRY: EngineEntry = EngineEntry {
    name: "wasmer",
    choice: Some(Choice {
        name: "wasmer-compiler",
        summary: "What compiles guests for Wasmer",
        variants: &[
            Variant {
                name: "cranelift",
                summary: "Starts fast",
                compiled_in: cfg!(feature = "wasmer"),
            },
            Variant {
                name: "llvm",
                summary: "Starts later; in builds with the feature wasmer-llvm",
                compiled_in: cfg!(feature = "wasmer-llvm"),
            },
        ],
        for_large: None,
    }),
    always_isolates: false,
    backend: BACKEND,
};

#[cfg(not(feature = "wasmer"))]
const BACKEND: Option<Backend> = None;

#[cfg(feature = "wasmer")]
const BACKEND: Option<Backend> =
    Some(Backend { open, compile: polychord_backend_wasmer::run_compiler });

#[cfg(feature = "wasmer")]
fn open(opening: super::entry::Opening<'_>) -> super::entry::Opened {
    use polychord_backend_wasmer::WasmerEngine;

    let variant = opening.variant.map(str::parse).transpose();
    let variant = variant.map_err(super::entry::OpenError::Variant)?;
    let mut engine = WasmerEngine::with_compiler(variant.unwrap_or_default())?;
    if let Some(compiler) = opening.compiler {
        engine = engine.isolate(compiler.clone());
    }
    if let Some(cache) = opening.cache {
        engine = engine.with_cache(cache.clone());
    }
    Ok(std::sync::Arc::new(engine))
}

//! WasmEdge, which needs a C library.

use super::entry::{Backend, Choice, EngineEntry, Variant};

pub(super) const ENTRY: EngineEntry = EngineEntry {
    name: "wasmedge",
    choice: Some(Choice {
        name: "wasmedge-mode",
        summary: "How WasmEdge runs guests",
        variants: &[
            Variant {
                name: "aot",
                summary: "Compiled ahead of time, and kept in the cache",
                compiled_in: cfg!(feature = "wasmedge"),
            },
            Variant {
                name: "interpreter",
                summary: "Interpreted: about a hundred times slower",
                compiled_in: cfg!(feature = "wasmedge"),
            },
        ],
        for_large: Some("interpreter"),
    }),
    always_isolates: true,
    backend: BACKEND,
};

#[cfg(not(feature = "wasmedge"))]
const BACKEND: Option<Backend> = None;

#[cfg(feature = "wasmedge")]
const BACKEND: Option<Backend> =
    Some(Backend { open, compile: polychord_backend_wasmedge::run_compiler });

#[cfg(feature = "wasmedge")]
fn open(opening: super::entry::Opening<'_>) -> super::entry::Opened {
    use polychord_backend_wasmedge::{Config, WasmEdgeEngine};

    let variant = opening.variant.map(str::parse).transpose();
    let variant = variant.map_err(super::entry::OpenError::Variant)?;
    let mut config = Config::new(variant.unwrap_or_default()).compiler(opening.compiler.cloned());
    config.cache = opening.cache.map(|cache| cache.path().to_owned());
    Ok(std::sync::Arc::new(WasmEdgeEngine::with_config(config)?))
}

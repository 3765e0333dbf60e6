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
fn open(
    variant: Option<&str>,
    compiler: Option<&polychord_runtime_api::spi::CompilerCommand>,
) -> super::entry::Opened {
    use polychord_backend_wasmer::WasmerEngine;

    let variant = variant.map(str::parse).transpose().map_err(super::entry::OpenError::Variant)?;
    let engine = WasmerEngine::with_compiler(variant.unwrap_or_default())?;
    Ok(match compiler {
        Some(compiler) => std::sync::Arc::new(engine.isolate(compiler.clone())),
        None => std::sync::Arc::new(engine),
    })
}

//! The promises of Polychord, checked on Wasmtime.

polychord_conformance::main!(polychord_backend_wasmtime::WasmtimeEngine::new());

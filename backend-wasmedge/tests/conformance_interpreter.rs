//! The promises of Polychord, kept by WasmEdge in its mode `interpreter`.

use polychord_backend_wasmedge::{Config, Mode, WasmEdgeEngine};

polychord_conformance::main!(WasmEdgeEngine::with_config(Config {
    mode: Mode::Interpreter,
    cache: Some(concat!(env!("CARGO_TARGET_TMPDIR"), "/aot").into()),
    ..Config::default()
}));

//! The promises of Polychord, kept by WasmEdge in its mode `interpreter`.

use polychord_backend_wasmedge::{Config, Mode, WasmEdgeEngine};
use polychord_conformance::{Expectations, ExpectedFailure};

const EXPECTATIONS: Expectations = Expectations {
    failures: &[ExpectedFailure {
        case: "memory/between_32_and_64",
        says: "was not refused",
        reason: "memory.copy takes the address types of source and destination the wrong way \
                 round, and so cuts a 64-bit address to 32 bits",
        link: "https://github.com/WasmEdge/WasmEdge/pull/4672",
    }],
};

polychord_conformance::main!(
    WasmEdgeEngine::with_config(Config {
        mode: Mode::Interpreter,
        cache: Some(concat!(env!("CARGO_TARGET_TMPDIR"), "/aot").into()),
        ..Config::default()
    }),
    EXPECTATIONS
);

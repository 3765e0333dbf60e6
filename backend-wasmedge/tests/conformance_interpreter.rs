//! The promises of Polychord, kept by WasmEdge in its mode `interpreter`.

mod expectations;

use expectations::quiet_nan;
use polychord_backend_wasmedge::{Config, Mode, WasmEdgeEngine};
use polychord_conformance::{Expectations, ExpectedFailure, SpecFloor};

const EXPECTATIONS: Expectations = Expectations {
    failures: &[
        ExpectedFailure {
            case: "memory/between_32_and_64",
            says: "was not refused",
            reason: "memory.copy takes the address types of source and destination the wrong \
                     way round, and so cuts a 64-bit address to 32 bits",
            link: "https://github.com/WasmEdge/WasmEdge/pull/4672",
        },
        quiet_nan("spec/core-3.0/f32.wast"),
        quiet_nan("spec/core-3.0/f64.wast"),
        quiet_nan("spec/simd/simd_f32x4.wast"),
        quiet_nan("spec/simd/simd_f64x2.wast"),
        quiet_nan("spec/simd/simd_f32x4_rounding.wast"),
        quiet_nan("spec/simd/simd_f64x2_rounding.wast"),
    ],
    spec_floors: &[
        SpecFloor { suite: "memory64", passed: 1_524 },
        SpecFloor { suite: "multi-memory", passed: 912 },
        SpecFloor { suite: "simd", passed: 25_307 },
        SpecFloor { suite: "relaxed-simd", passed: 77 },
        SpecFloor { suite: "bulk-memory", passed: 7_446 },
        SpecFloor { suite: "core-3.0", passed: 19_601 },
    ],
};

polychord_conformance::main!(
    WasmEdgeEngine::with_config(Config {
        mode: Mode::Interpreter,
        cache: Some(concat!(env!("CARGO_TARGET_TMPDIR"), "/aot").into()),
        ..Config::default()
    }),
    EXPECTATIONS
);

//! The promises of Polychord, kept by WasmEdge in its mode `aot`.

mod expectations;

use expectations::quiet_nan;
use polychord_backend_wasmedge::{Config, Mode, WasmEdgeEngine};
use polychord_conformance::{Expectations, SpecFloor};

const EXPECTATIONS: Expectations = Expectations {
    failures: &[quiet_nan("spec/simd/simd_f32x4.wast"), quiet_nan("spec/simd/simd_f64x2.wast")],
    spec_floors: &[
        SpecFloor { suite: "memory64", passed: 729 },
        SpecFloor { suite: "multi-memory", passed: 912 },
        SpecFloor { suite: "simd", passed: 25_319 },
        SpecFloor { suite: "relaxed-simd", passed: 77 },
        SpecFloor { suite: "bulk-memory", passed: 7_446 },
        SpecFloor { suite: "core-3.0", passed: 19_613 },
    ],
};

polychord_conformance::main!(
    WasmEdgeEngine::with_config(Config {
        mode: Mode::Aot,
        cache: Some(concat!(env!("CARGO_TARGET_TMPDIR"), "/aot").into()),
        ..Config::default()
    }),
    EXPECTATIONS
);

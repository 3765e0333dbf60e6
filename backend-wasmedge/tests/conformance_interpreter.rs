//! The promises of Polychord, kept by WasmEdge in its mode `interpreter`.

mod expectations;

use expectations::quiet_nan;
use polychord_backend_wasmedge::{Config, Mode, WasmEdgeEngine};
use polychord_conformance::{Expectations, ExpectedFailure, SpecFloor};

const EXPECTATIONS: Expectations = Expectations::NONE
    .failures(&[
        ExpectedFailure::new("memory/between_32_and_64", "was not refused").because(
            "memory.copy takes the address types of source and destination the wrong \
                     way round, and so cuts a 64-bit address to 32 bits",
            "https://github.com/WasmEdge/WasmEdge/pull/4672",
        ),
        quiet_nan("spec/core-3.0/f32.wast"),
        quiet_nan("spec/core-3.0/f64.wast"),
        quiet_nan("spec/simd/simd_f32x4.wast"),
        quiet_nan("spec/simd/simd_f64x2.wast"),
        quiet_nan("spec/simd/simd_f32x4_rounding.wast"),
        quiet_nan("spec/simd/simd_f64x2_rounding.wast"),
    ])
    .spec_floors(&[
        SpecFloor::new("memory64", 1_524),
        SpecFloor::new("multi-memory", 912),
        SpecFloor::new("simd", 25_307),
        SpecFloor::new("relaxed-simd", 77),
        SpecFloor::new("bulk-memory", 7_446),
        SpecFloor::new("core-3.0", 19_601),
    ]);

polychord_conformance::main!(
    WasmEdgeEngine::with_config(
        Config::new(Mode::Interpreter).cache(concat!(env!("CARGO_TARGET_TMPDIR"), "/aot"))
    ),
    EXPECTATIONS
);

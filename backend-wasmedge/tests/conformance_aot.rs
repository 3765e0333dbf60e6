//! The promises of Polychord, kept by WasmEdge in its mode `aot`.

mod expectations;

use expectations::quiet_nan;
use polychord_backend_wasmedge::{Config, Mode, WasmEdgeEngine};
use polychord_conformance::{Expectations, SpecFloor};

const EXPECTATIONS: Expectations = Expectations::NONE
    .failures(&[quiet_nan("spec/simd/simd_f32x4.wast"), quiet_nan("spec/simd/simd_f64x2.wast")])
    .spec_floors(&[
        SpecFloor::new("memory64", 729),
        SpecFloor::new("multi-memory", 912),
        SpecFloor::new("simd", 25_319),
        SpecFloor::new("relaxed-simd", 77),
        SpecFloor::new("bulk-memory", 7_446),
        SpecFloor::new("core-3.0", 19_613),
    ]);

polychord_conformance::main!(
    WasmEdgeEngine::with_config(
        Config::new(Mode::Aot).cache(concat!(env!("CARGO_TARGET_TMPDIR"), "/aot"))
    ),
    EXPECTATIONS
);

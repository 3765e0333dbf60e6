//! The promises of Polychord, checked on Wasmtime.

use polychord_conformance::{Expectations, SpecFloor};

const EXPECTATIONS: Expectations = Expectations {
    spec_floors: &[
        SpecFloor { suite: "memory64", passed: 1_524 },
        SpecFloor { suite: "multi-memory", passed: 912 },
        SpecFloor { suite: "simd", passed: 25_479 },
        SpecFloor { suite: "relaxed-simd", passed: 77 },
        SpecFloor { suite: "bulk-memory", passed: 7_446 },
        SpecFloor { suite: "core-3.0", passed: 19_628 },
    ],
    ..Expectations::NONE
};

polychord_conformance::main!(polychord_backend_wasmtime::WasmtimeEngine::new(), EXPECTATIONS);

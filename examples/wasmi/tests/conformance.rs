//! The promises of Polychord, checked on wasmi.

use polychord_conformance::{Expectations, SpecFloor};

const EXPECTATIONS: Expectations = Expectations::NONE.spec_floors(&[
    SpecFloor::new("memory64", 1_524),
    SpecFloor::new("multi-memory", 912),
    SpecFloor::new("simd", 25_479),
    SpecFloor::new("relaxed-simd", 77),
    SpecFloor::new("bulk-memory", 7_446),
    SpecFloor::new("core-3.0", 19_628),
]);

polychord_conformance::main!(polychord_example_wasmi::WasmiEngine::new(), EXPECTATIONS);

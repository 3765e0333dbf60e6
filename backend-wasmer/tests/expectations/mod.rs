//! What Wasmer has to pass, whichever compiler it has.

use polychord_conformance::{Expectations, SpecFloor};

pub(crate) const EXPECTATIONS: Expectations = Expectations {
    spec_floors: &[
        SpecFloor { suite: "memory64", passed: 729 },
        SpecFloor { suite: "multi-memory", passed: 912 },
        SpecFloor { suite: "simd", passed: 25_479 },
        SpecFloor { suite: "relaxed-simd", passed: 77 },
        SpecFloor { suite: "bulk-memory", passed: 7_446 },
        SpecFloor { suite: "core-3.0", passed: 19_628 },
    ],
    ..Expectations::NONE
};

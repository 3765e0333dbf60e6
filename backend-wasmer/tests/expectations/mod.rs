//! What Wasmer has to pass, whichever compiler it has.

use polychord_conformance::{Expectations, SpecFloor};

pub(crate) const EXPECTATIONS: Expectations = Expectations::NONE.spec_floors(&[
    SpecFloor::new("memory64", 1_524),
    SpecFloor::new("multi-memory", 912),
    SpecFloor::new("simd", 25_479),
    SpecFloor::new("relaxed-simd", 77),
    SpecFloor::new("bulk-memory", 7_446),
    SpecFloor::new("core-3.0", 19_628),
]);

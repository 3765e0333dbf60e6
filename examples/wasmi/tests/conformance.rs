//! The promises of Polychord, checked on wasmi.

polychord_conformance::main!(polychord_example_wasmi::WasmiEngine::new());

//! The promises of Polychord, checked on Wasmer.

polychord_conformance::main!(polychord_backend_wasmer::WasmerEngine::new());

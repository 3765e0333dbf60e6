//! The promises of Polychord, checked on Wasmer.

mod expectations;

use expectations::EXPECTATIONS;

polychord_conformance::main!(polychord_backend_wasmer::WasmerEngine::new(), EXPECTATIONS);

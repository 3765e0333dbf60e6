//! The promises of Polychord, checked on Wasmer with LLVM.

mod expectations;

use expectations::EXPECTATIONS;
use polychord_backend_wasmer::{Compiler, WasmerEngine};

polychord_conformance::main!(WasmerEngine::with_compiler(Compiler::Llvm), EXPECTATIONS);

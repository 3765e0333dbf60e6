//! LLVM is there, or the error says how it would be.

use polychord_backend_wasmer::{Compiler, WasmerEngine};
use polychord_runtime_api::Engine;

#[test]
fn llvm_opens_or_says_why_not() {
    match WasmerEngine::with_compiler(Compiler::Llvm) {
        Ok(engine) => {
            assert!(cfg!(feature = "llvm"));
            assert_eq!(engine.capabilities().execution, "LLVM");
        }
        Err(error) => {
            assert!(!cfg!(feature = "llvm"));
            assert!(error.to_string().contains("--features wasmer-llvm"), "{error}");
        }
    }
}

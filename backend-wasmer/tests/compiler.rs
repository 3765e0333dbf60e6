//! LLVM is available, or the error says how to build with it.

use polychord_backend_wasmer::{Compiler, WasmerEngine};
use polychord_runtime_api::Engine;

#[test]
fn llvm_opens_or_says_why_not() {
    let opened = WasmerEngine::with_compiler(Compiler::Llvm);
    assert_eq!(opened.is_ok(), cfg!(feature = "llvm"));
    match opened {
        Ok(engine) => assert_eq!(engine.capabilities().execution, "LLVM"),
        Err(error) => {
            assert!(error.to_string().contains("--features wasmer-llvm"), "{error}");
        }
    }
}

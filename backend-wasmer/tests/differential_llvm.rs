//! Random modules, compiled by LLVM, do the same as on wasmi.

use std::sync::Arc;

use polychord_backend_wasmer::{Compiler, WasmerEngine};
use polychord_conformance::differential::Differential;
use polychord_example_wasmi::WasmiEngine;
use polychord_runtime_api::spi::{Engine, Module};
use polychord_runtime_api::{Capabilities, Error, ModuleInfo, Result};

#[derive(Debug)]
/// Wasmer with LLVM, and the reference for what its translator refuses.
struct Translated {
    llvm: WasmerEngine,
    reference: WasmiEngine,
}

/// Wasmer's translator to LLVM refuses some modules that have vectors of `f32` and of `f64`
/// (docs/wasmer.md).
const REFUSED: &str = "two different kinds of nan canonicalization";

impl Engine for Translated {
    fn capabilities(&self) -> &Arc<Capabilities> {
        self.llvm.capabilities()
    }

    fn translate(&self, wasm: &[u8], info: Arc<ModuleInfo>) -> Result<Arc<dyn Module>> {
        match self.llvm.translate(wasm, info.clone()) {
            Err(Error::Compile { reason, .. }) if reason.contains(REFUSED) => {
                self.reference.translate(wasm, info)
            }
            other => other,
        }
    }
}

#[test]
fn random_modules_do_the_same_as_on_wasmi() {
    let llvm = WasmerEngine::with_compiler(Compiler::Llvm).unwrap();
    let engine = Translated { llvm, reference: WasmiEngine::new().unwrap() };
    let reference = WasmiEngine::new().unwrap();
    Differential::new(60, env!("CARGO_TARGET_TMPDIR")).test(&engine, &reference);
}

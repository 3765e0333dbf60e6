use polychord_runtime_api::{RelaxedSimd, Result};
use wasmer::sys::{Cranelift, CraneliftOptLevel, EngineBuilder};

/// What compiles guests.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Compiler {
    /// Cranelift, which is always there.
    #[default]
    Cranelift,
    /// LLVM, which takes longer, and whose code may be faster or slower: measure. It is there if
    /// this crate is built with the feature `llvm`.
    Llvm,
}

impl Compiler {
    /// Its name, as capabilities have it.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Cranelift => "Cranelift",
            Self::Llvm => "LLVM",
        }
    }

    pub(crate) const fn relaxed_simd(self) -> RelaxedSimd {
        match self {
            // Wasmer's Cranelift translates relaxed dot products to widening multiplications,
            Self::Cranelift => RelaxedSimd::Slower,
            // and its LLVM to the processor's instruction.
            Self::Llvm => RelaxedSimd::Faster,
        }
    }

    pub(crate) fn builder(self) -> Result<EngineBuilder> {
        match self {
            Self::Cranelift => {
                let mut compiler = Cranelift::default();
                compiler.opt_level(CraneliftOptLevel::Speed);
                Ok(EngineBuilder::new(compiler))
            }
            Self::Llvm => llvm(),
        }
    }
}

#[cfg(feature = "llvm")]
fn llvm() -> Result<EngineBuilder> {
    // Its defaults: all optimisations, and loads and stores as the guest has them.
    Ok(EngineBuilder::new(wasmer::sys::LLVM::default()))
}

#[cfg(not(feature = "llvm"))]
fn llvm() -> Result<EngineBuilder> {
    let reason = "LLVM is not compiled in: build with --features wasmer-llvm (docs/wasmer.md)";
    Err(polychord_runtime_api::Error::Compile { engine: crate::NAME, reason: reason.into() })
}

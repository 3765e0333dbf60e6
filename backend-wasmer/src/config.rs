//! How Wasmer is configured: the compiler, and the features of WebAssembly.

use polychord_runtime_api::plan::named;
use polychord_runtime_api::{RelaxedSimd, Result};
use wasmer::sys::{
    CpuFeature, Cranelift, CraneliftOptLevel, EngineBuilder, Features, Target, Triple,
};

/// The compiler that translates guests to native code.
///
/// ```
/// use polychord_backend_wasmer::{Compiler, WasmerEngine};
///
/// let engine = WasmerEngine::with_compiler(Compiler::Cranelift)?;
/// assert_eq!("cranelift".parse(), Ok(Compiler::default()));
/// # Ok::<(), polychord_runtime_api::Error>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Compiler {
    /// Cranelift, which is always available.
    #[default]
    Cranelift,
    /// LLVM, available if this crate is built with the feature `llvm`. It takes longer to compile,
    /// and its code may be faster or slower: measure.
    Llvm,
}

named!(Compiler, "compiler of Wasmer", {
    Cranelift = "cranelift": "Starts fast",
    Llvm = "llvm": "Starts later; in builds with the feature wasmer-llvm",
});

impl Compiler {
    /// Its name in capabilities.
    pub(crate) const fn execution(self) -> &'static str {
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

    /// An engine of Wasmer with this compiler, which uses all cores: that is Wasmer's default. Code is for this
    /// processor, or, if it is to be portable, for any of this architecture.
    pub(crate) fn engine(self, portable: bool) -> Result<wasmer::Engine> {
        let mut builder = self.builder()?.set_features(Some(features()));
        if portable {
            // Those since 2009 have it. With less, Cranelift calls functions that Wasmer does not have.
            let least = if cfg!(target_arch = "x86_64") {
                CpuFeature::SSE2
                    | CpuFeature::SSE3
                    | CpuFeature::SSSE3
                    | CpuFeature::SSE41
                    | CpuFeature::SSE42
                    | CpuFeature::POPCNT
            } else {
                CpuFeature::set()
            };
            builder = builder.set_target(Some(Target::new(Triple::host(), least)));
        }
        Ok(builder.into())
    }

    fn builder(self) -> Result<EngineBuilder> {
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

/// The features that guests may use.
pub(crate) fn features() -> Features {
    let mut features = Features::new();
    features
        .reference_types(true)
        .simd(true)
        .bulk_memory(true)
        .multi_value(true)
        .multi_memory(true)
        .relaxed_simd(true)
        .extended_const(true)
        .threads(false)
        .tail_call(false)
        .memory64(false);
    features
}

#[cfg(feature = "llvm")]
fn llvm() -> Result<EngineBuilder> {
    // Its defaults: all optimizations, and loads and stores as the guest has them.
    Ok(EngineBuilder::new(wasmer::sys::LLVM::default()))
}

#[cfg(not(feature = "llvm"))]
fn llvm() -> Result<EngineBuilder> {
    let reason = "LLVM is not compiled in: build with --features wasmer-llvm (docs/wasmer.md)";
    Err(polychord_runtime_api::Error::Compile { engine: crate::NAME, reason: reason.into() })
}

//! Native code of modules: compiled here, in another process, or before.

use polychord_code_cache::{CodeCache, Key};
use polychord_runtime_api::spi::CompilerCommand;
use polychord_runtime_api::{Error, Result};
use wasmer::sys::CpuFeature;

use crate::config::{Compiler, features};
use crate::{NAME, error};

/// How modules become code.
#[derive(Clone, Debug)]
pub(crate) struct Translator {
    pub(crate) compiler: Compiler,
    /// Whether code is for any processor of this architecture, and not for this one.
    pub(crate) portable: bool,
    /// The program that compiles; none if this process does.
    pub(crate) isolated: Option<CompilerCommand>,
    /// Where compiled code is kept, if it is.
    pub(crate) cache: Option<CodeCache>,
}

impl Translator {
    /// An engine of Wasmer's that compiles in this way.
    pub(crate) fn engine(&self) -> Result<wasmer::Engine> {
        self.compiler.engine(self.portable)
    }

    /// A module's code: from the cache if it is there, or compiled.
    pub(crate) fn code(&self, engine: &wasmer::Engine, wasm: &[u8]) -> Result<wasmer::Module> {
        let compile = || match &self.isolated {
            Some(command) => command.run(NAME, &[self.compiler.execution().into()], wasm),
            // By an engine of its own: one that panics while it compiles, where the system refuses it threads, say,
            // locks itself for good.
            None => compile(&self.engine()?, wasm),
        };
        match &self.cache {
            Some(cache) => cache.load(&self.key(engine, wasm), compile, |code| load(engine, code)),
            None => load(engine, &compile()?),
        }
    }

    /// Everything that code depends on.
    fn key(&self, engine: &wasmer::Engine, wasm: &[u8]) -> Key {
        let id = engine.deterministic_id();
        let processor = if self.portable { " portable" } else { "" };
        let settings = format!(
            "{} {id} {:?} {:?}{processor}",
            self.compiler.execution(),
            features(),
            CpuFeature::for_host()
        );
        Key::new(NAME, wasmer_types::VERSION, settings.as_bytes(), wasm)
    }
}

/// Compiles in this process; the code.
pub(crate) fn compile(engine: &wasmer::Engine, wasm: &[u8]) -> Result<Vec<u8>> {
    let module = wasmer::Module::new(engine, wasm).map_err(|e| error::compile(&e))?;
    let code = module.serialize();
    Ok(code.map_err(|e| Error::Compile { engine: NAME, reason: e.to_string() })?.to_vec())
}

/// Loads what a [`Translator`] has had compiled.
#[allow(unsafe_code, reason = "native code that this user's own programs have compiled")]
fn load(engine: &wasmer::Engine, code: &[u8]) -> Result<wasmer::Module> {
    // SAFETY: the bytes are what `Module::serialize` wrote: in this process; or in one that this
    // process has just started from the program that the embedder names (whose contract is to call
    // `run_compiler`), from which they came by a pipe that no other process has; or in an earlier
    // process of this user, out of a `CodeCache`, which returns only what it has read from a file that
    // no other user could have written and that ends with the hash of these bytes and of the key that
    // they were compiled for: of this version of Wasmer, compiler, features and processor.
    let module = unsafe { wasmer::Module::deserialize(engine, code) };
    module.map_err(|e| Error::Compile { engine: NAME, reason: e.to_string() })
}

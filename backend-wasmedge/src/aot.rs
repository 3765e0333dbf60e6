//! Guests compiled ahead of time, and where they are kept.
//!
//! WasmEdge cannot do without: it loads native code from files alone. What is loaded are the bytes
//! that the cache has checked (`image.rs`).

mod compiler;
mod failure;
mod image;
mod private;

use std::env::consts::DLL_EXTENSION;
use std::fs;
use std::path::PathBuf;

use polychord_code_cache::{CodeCache, Key};
use polychord_runtime_api::Result;
use polychord_runtime_api::spi::CompilerCommand;
use wasmedge_sdk::Module;

use crate::{NAME, VERSION};
pub use compiler::run_compiler;
use compiler::{OUTPUT, compile_here, compile_there};
use failure::{failed, no_folder, not_opened, refused};
use private::{Private, remove_abandoned};

/// Compiled guests in a folder.
#[derive(Debug)]
pub(crate) struct Cache {
    kept: CodeCache,
    compiler: Option<CompilerCommand>,
}

/// Of what `config.rs` sets for the compiler: another number for each change.
const SETTINGS: &[u8] = b"1";

impl Cache {
    /// Uses a folder, or makes it; by default in the user's cache folder.
    pub(crate) fn open(folder: Option<PathBuf>, compiler: Option<CompilerCommand>) -> Result<Self> {
        let folder = folder.or_else(CodeCache::default_folder).ok_or_else(no_folder)?;
        let kept = CodeCache::open(&folder).map_err(|error| not_opened(error, &folder))?;
        Ok(Self { kept, compiler })
    }

    /// A cache in a folder within this one.
    pub(crate) fn within(&self, name: &str) -> Result<Self> {
        let kept = self.kept.within(name).map_err(refused)?;
        Ok(Self { kept, compiler: self.compiler.clone() })
    }

    /// Whether modules are compiled in this process.
    pub(crate) const fn compiles_here(&self) -> bool {
        self.compiler.is_none()
    }

    /// Compiles a module in this process, and discards the result.
    pub(crate) fn compile_and_discard(&self, wasm: &[u8]) -> Result<()> {
        compile_here(wasm, self.private_folder()?.path())
    }

    /// Loads a module's compiled code, after compiling it if need be. A folder that others could change
    /// is refused, and not only left unused: compiling goes by way of it, too.
    pub(crate) fn load(&self, wasm: &[u8]) -> Result<Module> {
        let key = Key::new(NAME, VERSION, SETTINGS, wasm);
        let code = match self.kept.find(&key).map_err(refused)? {
            Some(code) => code,
            None => {
                let code = self.compile(wasm)?;
                self.kept.keep(&key, &code).map_err(refused)?;
                code
            }
        };
        image::load(&code, || self.private_folder())
    }

    /// Compiles into a folder of its own, whose path the compiler wants.
    fn compile(&self, wasm: &[u8]) -> Result<Vec<u8>> {
        remove_abandoned(self.kept.path());
        let part = self.private_folder()?;
        match &self.compiler {
            None => compile_here(wasm, part.path())?,
            Some(compiler) => compile_there(compiler, wasm, part.path())?,
        }
        let so = part.path().join(OUTPUT).with_extension(DLL_EXTENSION);
        fs::read(&so).map_err(|e| failed("read", &so, &e))
    }

    /// A new folder in this one, with mode 0700, that is removed when it is dropped. No other
    /// user can replace anything on its path, which leads through folders that were checked.
    fn private_folder(&self) -> Result<Private> {
        let made = Private::new(self.kept.path());
        made.map_err(|e| failed("write to", self.kept.path(), &e))
    }
}

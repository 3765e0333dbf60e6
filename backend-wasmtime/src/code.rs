//! Native code of modules: compiled here, in another process, or before.

use std::hash::{Hash as _, Hasher};

use polychord_code_cache::Key;
use polychord_runtime_api::{AddressType, Result};

use crate::config::Engines;
use crate::{NAME, error, isolated};

/// A module's code: from the cache if it is there, or compiled.
pub(crate) fn of(engines: &Engines, wasm: &[u8], address: AddressType) -> Result<wasmtime::Module> {
    let engine = engines.get(address)?;
    let compile = || match &engines.compiler {
        Some(command) => isolated::compile(command, address, wasm),
        None => engine.precompile_module(wasm).map_err(|e| error::compile(&e)),
    };
    match (&engines.cache, &engines.compiler) {
        (Some(cache), _) => cache.load(&key(engine, wasm), compile, |code| load(engine, code)),
        (None, Some(_)) => load(engine, &compile()?),
        (None, None) => wasmtime::Module::new(engine, wasm).map_err(|e| error::compile(&e)),
    }
}

/// Everything that code depends on, as Wasmtime itself would compare it.
fn key(engine: &wasmtime::Engine, wasm: &[u8]) -> Key {
    let mut settings = Settings(Vec::new());
    engine.precompile_compatibility_hash().hash(&mut settings);
    Key::new(NAME, wasmtime_environ::VERSION, &settings.0, wasm)
}

/// Keeps what is hashed.
struct Settings(Vec<u8>);

impl Hasher for Settings {
    fn write(&mut self, bytes: &[u8]) {
        self.0.extend_from_slice(bytes);
    }

    fn finish(&self) -> u64 {
        self.0.len() as u64
    }
}

/// Loads what [`of`] has had compiled.
#[allow(unsafe_code, reason = "native code that this user's own programs have compiled")]
fn load(engine: &wasmtime::Engine, code: &[u8]) -> Result<wasmtime::Module> {
    // SAFETY: the bytes are what `precompile_module` wrote: in this process; or in one that this
    // process has just started from the program that the embedder names (whose contract is to call
    // `run_compiler`), from which they came by a pipe that no other process has; or in an earlier
    // process of this user, out of a `CodeCache`, which returns only what it has read from a file that
    // no other user could have written and that ends with the hash of these bytes and of the key that
    // they were compiled for. They are of the same version and settings, or `deserialize` refuses them.
    unsafe { wasmtime::Module::deserialize(engine, code) }.map_err(|e| error::compile(&e))
}

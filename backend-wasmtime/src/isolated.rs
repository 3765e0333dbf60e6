//! Compiling in a process of its own.

use std::ffi::OsString;

use polychord_runtime_api::spi::{CompilerCommand, serve_compiler};
use polychord_runtime_api::{AddressType, Error, Result};

use crate::config::Engines;
use crate::{NAME, error};

/// Serves one run of a [`CompilerCommand`]. `args` are the last ones of the process.
///
/// # Errors
///
/// [`Error::Compile`] if the arguments are not those, or if Wasmtime cannot compile the module.
/// The program should write it to stderr and exit with a failure.
pub fn run_compiler(args: &[OsString]) -> Result<()> {
    let kinds = [AddressType::I32, AddressType::I64];
    let kind = args.last().and_then(|arg| kinds.into_iter().find(|kind| kind_name(*kind) == *arg));
    let address = kind.ok_or_else(|| Error::Compile {
        engine: NAME,
        reason: format!("the compiler takes i32 or i64, and not {args:?}"),
    })?;
    serve_compiler(NAME, |wasm| {
        let engines = Engines::default();
        engines.get(address)?.precompile_module(wasm).map_err(|e| error::compile(&e))
    })
}

/// Compiles in another process.
#[allow(unsafe_code, reason = "native code that this program has just had compiled")]
pub(crate) fn compile(
    command: &CompilerCommand,
    engine: &wasmtime::Engine,
    address: AddressType,
    wasm: &[u8],
) -> Result<wasmtime::Module> {
    let code = command.run(NAME, &[kind_name(address).into()], wasm)?;
    // SAFETY: the bytes are what `precompile_module` wrote, in a process that this one has just
    // started from the program that the embedder names (whose contract is to call `run_compiler`),
    // and they came by a pipe that no other process has. They are of the same version and settings,
    // or `deserialize` refuses them.
    unsafe { wasmtime::Module::deserialize(engine, code) }.map_err(|e| error::compile(&e))
}

const fn kind_name(address: AddressType) -> &'static str {
    match address {
        AddressType::I32 => "i32",
        AddressType::I64 => "i64",
    }
}

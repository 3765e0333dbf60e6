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

/// Compiles in another process; the code.
pub(crate) fn compile(
    command: &CompilerCommand,
    address: AddressType,
    wasm: &[u8],
) -> Result<Vec<u8>> {
    command.run(NAME, &[kind_name(address).into()], wasm)
}

const fn kind_name(address: AddressType) -> &'static str {
    match address {
        AddressType::I32 => "i32",
        AddressType::I64 => "i64",
    }
}

//! Compiling in a process of its own.

use std::ffi::OsString;

use polychord_runtime_api::spi::{CompilerCommand, serve_compiler};
use polychord_runtime_api::{Error, Result};

use crate::config::Compiler;
use crate::{NAME, error};

/// Serves one run of a [`CompilerCommand`]. `args` are the last ones of the process.
///
/// # Errors
///
/// [`Error::Compile`] if the arguments are not those, or if Wasmer cannot compile the module. The
/// program should write it to stderr and exit with a failure.
pub fn run_compiler(args: &[OsString]) -> Result<()> {
    let compilers = [Compiler::Cranelift, Compiler::Llvm];
    let named =
        |arg: &OsString| compilers.into_iter().find(|compiler| compiler.execution() == *arg);
    let compiler = args.last().and_then(named).ok_or_else(|| Error::Compile {
        engine: NAME,
        reason: format!("the compiler takes Cranelift or LLVM, and not {args:?}"),
    })?;
    serve_compiler(NAME, |wasm| {
        let engine = compiler.engine()?;
        let module = wasmer::Module::new(&engine, wasm).map_err(|e| error::compile(&e))?;
        let code = module.serialize();
        Ok(code.map_err(|e| Error::Compile { engine: NAME, reason: e.to_string() })?.to_vec())
    })
}

/// Compiles in another process.
#[allow(unsafe_code, reason = "native code that this program has just had compiled")]
pub(crate) fn compile(
    command: &CompilerCommand,
    engine: &wasmer::Engine,
    compiler: &str,
    wasm: &[u8],
) -> Result<wasmer::Module> {
    let code = command.run(NAME, &[compiler.into()], wasm)?;
    // SAFETY: the bytes are what `Module::serialize` wrote, in a process that this one has just
    // started from the program that the embedder names (whose contract is to call `run_compiler`),
    // and they came by a pipe that no other process has.
    let module = unsafe { wasmer::Module::deserialize(engine, code) };
    module.map_err(|e| Error::Compile { engine: NAME, reason: e.to_string() })
}

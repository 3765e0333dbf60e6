//! Compiling in a process of its own.

use std::ffi::OsString;

use polychord_runtime_api::spi::serve_compiler;
use polychord_runtime_api::{Error, Result};

use crate::config::Compiler;
use crate::{NAME, code};

/// Serves one run of a [`CompilerCommand`](polychord_runtime_api::spi::CompilerCommand). `args` are the last ones of the process.
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
    serve_compiler(NAME, |wasm| code::compile(&compiler.engine(false)?, wasm))
}

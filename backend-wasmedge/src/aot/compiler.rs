//! WasmEdge's compiler, in this process or in another one.

use std::ffi::OsString;
use std::fs;
use std::path::Path;

use polychord_runtime_api::Result;
use polychord_runtime_api::spi::{CompilerCommand, serve_compiler};
use wasmedge_sdk::Compiler;

use super::failure::failed;
use crate::config::compiler_config;
use crate::{NAME, compile_lock, error};

/// Serves one run of a [`CompilerCommand`]: compiles the module in a folder, which is the last
/// argument of the process.
///
/// # Errors
///
/// [`Error::Compile`](polychord_runtime_api::Error::Compile) if the arguments are not those, or
/// if WasmEdge cannot compile the module. The program should write it to stderr and exit with a
/// failure.
pub fn run_compiler(args: &[OsString]) -> Result<()> {
    let [folder] = args else {
        return Err(error::compile("the compiler takes a folder"));
    };
    wasmedge_sdk::LogManager::log_off();
    let folder = Path::new(folder);
    let input = folder.join(INPUT);
    let wasm = fs::read(&input).map_err(|e| failed("read", &input, &e))?;
    serve_compiler(NAME, |_| compile_here(&wasm, folder).map(|()| Vec::new()))
}

/// Names of the module and of its compiled code, in the folder of one compilation.
const INPUT: &str = "guest.wasm";
pub(super) const OUTPUT: &str = "guest";

/// Compiles in this process, into a folder.
pub(super) fn compile_here(wasm: &[u8], folder: &Path) -> Result<()> {
    let _lock = compile_lock::acquire()?;
    let config = compiler_config()?;
    let compiler = Compiler::new(Some(&config)).map_err(|e| {
        error::compile(&format!(
            "{e}: this libwasmedge was built without its compiler; use the interpreter"
        ))
    })?;
    let made = compiler.compile_from_bytes(wasm, OUTPUT, folder);
    made.map(drop).map_err(|e| error::compile(&e.to_string()))
}

/// Compiles in another process, whose crash is only an error here.
pub(super) fn compile_there(compiler: &CompilerCommand, wasm: &[u8], folder: &Path) -> Result<()> {
    let input = folder.join(INPUT);
    fs::write(&input, wasm).map_err(|e| failed("write", &input, &e))?;
    compiler.run(NAME, &[folder.into()], &[]).map(drop)
}

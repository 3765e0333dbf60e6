//! WasmEdge's compiler, in this process or in another one.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::sync::{Mutex, PoisonError};

use polychord_runtime_api::Result;
use wasmedge_sdk::Compiler;

use super::failed;
use crate::engine::compiler_config;
use crate::error;

/// A program that compiles guests in a process of its own.
///
/// It is run with `args` and two more arguments, which it passes to [`run_compiler`]: most
/// easily the program that uses this crate itself, by a hidden subcommand.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CompilerCommand {
    /// The program.
    pub program: PathBuf,
    /// Arguments that lead it to [`run_compiler`].
    pub args: Vec<OsString>,
}

/// Serves one run of a [`CompilerCommand`]: compiles the module in a folder. `args` are the
/// last two arguments of the process.
///
/// # Errors
///
/// [`Error::Compile`] if the arguments are not those, or if WasmEdge cannot compile the
/// module. The program should write it to stderr and exit with a failure.
pub fn run_compiler(args: &[OsString]) -> Result<()> {
    let [kind, folder] = args else {
        return Err(error::compile("the compiler takes a kind and a folder"));
    };
    wasmedge_sdk::LogManager::log_off();
    let folder = Path::new(folder);
    let input = folder.join(INPUT);
    let wasm = fs::read(&input).map_err(|e| failed("read", &input, &e))?;
    compile_here(&wasm, kind == INTERRUPTIBLE, folder)
}

/// What is compiled and what comes of it, in the folder of one compilation.
const INPUT: &str = "guest.wasm";
pub(super) const OUTPUT: &str = "guest";

const INTERRUPTIBLE: &str = "interruptible";
const PLAIN: &str = "plain";

/// Compiles in this process, into a folder.
pub(super) fn compile_here(wasm: &[u8], interruptible: bool, folder: &Path) -> Result<()> {
    // The linker that ends the compilation keeps state in globals.
    static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
    let _guard = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    let config = compiler_config(interruptible)?;
    let compiler = Compiler::new(Some(&config)).map_err(|e| {
        error::compile(&format!(
            "{e}: this libwasmedge was built without its compiler; use the interpreter"
        ))
    })?;
    let made = compiler.compile_from_bytes(wasm, OUTPUT, folder);
    made.map(drop).map_err(|e| error::compile(&e.to_string()))
}

/// Compiles in another process, whose end is only an error here.
pub(super) fn compile_there(
    compiler: &CompilerCommand,
    wasm: &[u8],
    interruptible: bool,
    folder: &Path,
) -> Result<()> {
    let input = folder.join(INPUT);
    fs::write(&input, wasm).map_err(|e| failed("write", &input, &e))?;
    let output = Command::new(&compiler.program)
        .args(&compiler.args)
        .arg(if interruptible { INTERRUPTIBLE } else { PLAIN })
        .arg(folder)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .output()
        .map_err(|e| failed("run", &compiler.program, &e))?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    let said = said.trim();
    let crashed = if has_crashed(output.status) {
        " It crashed, as LLVM does on some modules: use WasmEdge's interpreter or another engine."
    } else {
        ""
    };
    let (program, status) = (compiler.program.display(), output.status);
    Err(error::compile(&format!("{program} ended with {status}: {said}.{crashed}")))
}

#[cfg(unix)]
fn has_crashed(status: ExitStatus) -> bool {
    std::os::unix::process::ExitStatusExt::signal(&status).is_some()
}

#[cfg(not(unix))]
fn has_crashed(status: ExitStatus) -> bool {
    status.code().is_some_and(i32::is_negative)
}

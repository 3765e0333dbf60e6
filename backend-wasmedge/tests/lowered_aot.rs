//! 64-bit memories, which are lowered for guests that are compiled in a process of their own, do what those of an
//! engine that has them do.
#![allow(clippy::print_stderr, reason = "a compiler says why it failed")]

use std::process::ExitCode;

use libtest_mimic::{Arguments, Trial};
use polychord_backend_wasmedge::{CompilerCommand, Config, Mode, WasmEdgeEngine, run_compiler};
use polychord_conformance::spec;

/// What has this program compile.
const COMPILER: &str = "as-compiler";

fn main() -> ExitCode {
    let args: Vec<_> = std::env::args_os().skip(1).collect();
    if args.first().is_some_and(|arg| arg == COMPILER) {
        return match run_compiler(&args[1..]) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => {
                eprintln!("{error}");
                ExitCode::FAILURE
            }
        };
    }
    let trial = Trial::test("lowered_memories_do_what_native_ones_do", || {
        let cache = concat!(env!("CARGO_TARGET_TMPDIR"), "/aot");
        let compiler = CompilerCommand::new(std::env::current_exe()?).arg(COMPILER);
        let config = Config::new(Mode::Aot).cache(cache).compiler(compiler);
        let engine = WasmEdgeEngine::with_config(config)?;
        Ok(spec::check_memory64(&engine)?)
    });
    libtest_mimic::run(&Arguments::from_args(), vec![trial]).exit_code()
}

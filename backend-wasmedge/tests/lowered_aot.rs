//! 64-bit memories, which are lowered for compiled guests, do what those of an engine that has them do.

use std::process::ExitCode;

use libtest_mimic::{Arguments, Trial};
use polychord_backend_wasmedge::{Config, Mode, WasmEdgeEngine};
use polychord_conformance::spec;

fn main() -> ExitCode {
    let trial = Trial::test("lowered_memories_do_what_native_ones_do", || {
        let cache = concat!(env!("CARGO_TARGET_TMPDIR"), "/aot");
        let engine = WasmEdgeEngine::with_config(Config::new(Mode::Aot).cache(cache))?;
        Ok(spec::check_memory64(&engine)?)
    });
    libtest_mimic::run(&Arguments::from_args(), vec![trial]).exit_code()
}

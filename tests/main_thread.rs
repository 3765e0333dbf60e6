//! Runaway recursion is a trap on a main thread with a small stack, which grows into a limit of the
//! system's.
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "tests")]

use std::process::Command;

use polychord::api::{Error, Limits, TrapKind, Value};

/// Set for the process whose stack is small: the engine's name.
const ENGINE: &str = "POLYCHORD_TEST_ENGINE";

/// With and without a call of the host on the way.
const RECURSION: &str = r#"(module
    (import "env" "memory64_stats" (func $stats (result i64)))
    (func $down (export "recurse") (result i64) (i64.add (i64.const 1) (call $down)))
    (func $through (export "recurse_through_the_host") (result i64)
        (i64.add (call $stats) (call $through)))
    (func (export "fine") (result i64) (i64.const 7)))"#;

fn main() {
    if let Ok(engine) = std::env::var(ENGINE) {
        return recurse(&engine);
    }
    if !cfg!(target_os = "linux") || std::env::args().any(|argument| argument == "--list") {
        return;
    }
    for engine in polychord::available() {
        for kilobytes in [256, 512, 1024, 8192] {
            let mut command = Command::new("sh");
            let limit = format!("ulimit -s {kilobytes} && exec \"$0\"");
            command.args(["-c", &limit]).arg(std::env::current_exe().unwrap());
            let status = command.env(ENGINE, engine).status().unwrap();
            assert!(status.success(), "{engine} with a stack of {kilobytes} KiB: {status}");
            println!("main_thread: {engine} with a stack of {kilobytes} KiB ... ok");
        }
    }
}

fn recurse(engine: &str) {
    let engine = polychord::open(engine).unwrap();
    let module = engine.compile(&wat::parse_str(RECURSION).unwrap()).unwrap();
    let mut guest = module.instantiate(&Limits::default()).unwrap();
    for export in ["recurse", "recurse_through_the_host"] {
        if engine.capabilities().stack_overflow_trap {
            let error = guest.call(export, &[]).unwrap_err();
            let is_trap = matches!(error, Error::Trap { kind: TrapKind::StackOverflow, .. });
            assert!(is_trap, "{export}: {error}");
        }
        assert_eq!(guest.call("fine", &[]).unwrap(), [Value::I64(7)]);
    }
}

//! Compiling in a process of its own: what runs so, and what ends only there.
#![cfg(all(feature = "cli", any(feature = "wasmer", feature = "wasmtime")))]
#![allow(clippy::unwrap_used, reason = "tests")]

use std::time::Duration;

use polychord::api::spi::CompilerCommand;
use polychord::api::{Engine, Error, Limits, ModuleLimits, Value};

fn command(engine: &str) -> CompilerCommand {
    CompilerCommand::new(env!("CARGO_BIN_EXE_polychord")).arg("compile-guest").arg(engine)
}

/// Many values at many joins: gigabytes, and minutes, for a compiler.
fn bomb() -> Vec<u8> {
    let (blocks, results) = (4_000, "i64 ".repeat(1_000));
    let labels: String = (0..blocks).map(|label| format!("{label} ")).collect();
    let values = "global.get 0 ".repeat(1_000);
    let (open, close) = ("block (type $t) ".repeat(blocks), "end ".repeat(blocks));
    let drops = "drop ".repeat(1_000);
    let calls = "call 0 ".repeat(4_000);
    wat::parse_str(format!(
        "(module (type $t (func (result {results}))) (global (mut i64) (i64.const 1))
            (func $f (type $t) unreachable)
            (func {calls} unreachable)
            (func (export \"f\") {open} {values} (br_table {labels} (i32.wrap_i64 (global.get 0)))
            {close} {drops}))"
    ))
    .unwrap()
}

fn check(make: impl Fn(CompilerCommand) -> Box<dyn Engine>, name: &str) {
    let engine = make(command(name));
    let wasm = wat::parse_str(
        "(module (memory (export \"memory\") 1) (func (export \"f\") (result i32)
            (memory.fill (i32.const 8) (i32.const 5) (i32.const 9)) (i32.load8_u (i32.const 12))))",
    );
    for limits in [Limits::default(), Limits::default().memory_bytes(1 << 16)] {
        let mut guest =
            engine.compile(wasm.as_ref().unwrap()).unwrap().instantiate(&limits).unwrap();
        assert_eq!(guest.call("f", &[]).unwrap(), [Value::I32(5)]);
    }
    // Refused here, before any process is started; with trust, the process reaches its limits.
    let bomb = bomb();
    let engine = make(command(name).memory_bytes(512 << 20).time(Duration::from_secs(5)));
    assert!(matches!(engine.compile(&bomb), Err(Error::TooComplex { .. })));
    let Err(error) = engine.compile_within(&bomb, &ModuleLimits::trusted()) else {
        panic!("{name} compiled it");
    };
    assert!(matches!(error, Error::Compile { .. }), "{error}");
    let error = error.to_string();
    assert!(error.contains("536870912 bytes") && error.contains("5s"), "{error}");
    // A program that is no compiler is an error, too.
    let engine = make(CompilerCommand::new(env!("CARGO_BIN_EXE_polychord")).arg("no-such-command"));
    let error = engine.compile(wasm.as_ref().unwrap()).map(drop).unwrap_err().to_string();
    assert!(error.contains("no-such-command"), "{error}");
}

#[cfg(feature = "wasmtime")]
#[test]
fn wasmtime_compiles_in_another_process() {
    use polychord::wasmtime::WasmtimeEngine;

    check(|command| Box::new(WasmtimeEngine::new().unwrap().isolate(command)), "wasmtime");
}

#[cfg(feature = "wasmer")]
#[test]
fn wasmer_compiles_in_another_process() {
    use polychord::wasmer::WasmerEngine;

    check(|command| Box::new(WasmerEngine::new().unwrap().isolate(command)), "wasmer");
}

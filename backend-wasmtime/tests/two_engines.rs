//! Wasmtime and Wasmer in one process: both catch the signals of the same traps, and neither
//! may take the other's, in either order of their start.
#![allow(clippy::unwrap_used, reason = "tests")]

use std::process::Command;

use polychord_backend_wasmer::WasmerEngine;
use polychord_backend_wasmtime::WasmtimeEngine;
use polychord_runtime_api::{Engine, Error, Limits, Runtime, TrapKind, Value};

const ORDER: &str = "POLYCHORD_TEST_ORDER";
const WAT: &str = r#"(module
    (memory (export "memory") 1)
    (func (export "fine") (result i32) (i32.const 42))
    (func (export "unreachable") (unreachable))
    (func (export "load") (drop (i32.load (i32.const -1))))
    (func (export "divide") (param i32) (drop (i32.div_s (i32.const 1) (local.get 0))))
    (func $down (export "recurse") (result i32) (i32.add (i32.const 1) (call $down)))
    (func (export "loop") (loop $again (br $again))))"#;

fn engine(name: &str) -> Box<dyn Engine> {
    match name {
        "wasmer" => Box::new(WasmerEngine::new().unwrap()),
        _ => Box::new(WasmtimeEngine::new().unwrap()),
    }
}

fn start(engine: &dyn Engine) -> Box<dyn Runtime> {
    let limits = Limits::default().call_time(std::time::Duration::from_millis(50));
    engine.compile(&wat::parse_str(WAT).unwrap()).unwrap().instantiate(&limits).unwrap()
}

#[track_caller]
fn trap(guest: &mut dyn Runtime, export: &str, args: &[Value]) -> TrapKind {
    let Err(Error::Trap { kind, .. }) = guest.call(export, args) else { panic!("no trap") };
    assert_eq!(guest.call("fine", &[]).unwrap(), [Value::I32(42)]);
    kind
}

fn all_traps(guest: &mut dyn Runtime) {
    assert_eq!(trap(guest, "unreachable", &[]), TrapKind::Unreachable);
    assert_eq!(trap(guest, "load", &[]), TrapKind::MemoryOutOfBounds);
    assert_eq!(trap(guest, "divide", &[Value::I32(0)]), TrapKind::IntegerDivisionByZero);
    assert_eq!(trap(guest, "recurse", &[]), TrapKind::StackOverflow);
    assert!(matches!(trap(guest, "loop", &[]), TrapKind::DeadlineExceeded(_)));
}

/// Signal handlers are the process's, so every order of engines needs a process of its own.
fn in_a_process(order: &str) {
    let status = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "in_this_order", "--ignored", "--nocapture"])
        .env(ORDER, order)
        .status()
        .unwrap();
    assert!(status.success(), "{order}: {status}");
}

#[test]
fn wasmtime_first() {
    in_a_process("wasmtime wasmer");
}

#[test]
fn wasmer_first() {
    in_a_process("wasmer wasmtime");
}

#[test]
#[ignore = "the other tests run it in processes of their own"]
fn in_this_order() {
    let Ok(order) = std::env::var(ORDER) else { return };
    let mut guests = Vec::new();
    for name in order.split(' ') {
        let mut guest = start(&*engine(name));
        // The first one traps before the second one exists.
        all_traps(&mut *guest);
        guests.push(guest);
    }
    for _ in 0..3 {
        for guest in &mut guests {
            all_traps(&mut **guest);
        }
        guests.reverse();
    }
    std::thread::scope(|scope| {
        for guest in &mut guests {
            scope.spawn(|| (0..5).for_each(|_| all_traps(&mut **guest)));
        }
    });
}

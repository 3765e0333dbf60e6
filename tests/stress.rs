//! Guests that are stopped again and again in the middle of what the host or the engine does for
//! them, and then go on.
//!
//! The default is a short run. `scripts/test --stress` makes 100,000 stops on each engine
//! (`POLYCHORD_STOPS`).
#![allow(clippy::unwrap_used, reason = "tests")]

mod common;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use polychord::api::{Engine, Error, Limits, MemorySpec, Module, Runtime, TrapKind, Value};

/// How many times guests are stopped on each engine, in all threads.
fn stops() -> usize {
    std::env::var("POLYCHORD_STOPS").map_or(2_000, |stops| stops.parse().unwrap())
}

/// Loops around everything that leaves compiled code: imports, bulk instructions, growth, calls.
const GUEST: &str = r#"(module
    (import "env" "memory64_is_enabled" (func $enabled (result i32)))
    (import "env" "memory64_stats" (func $stats (result i64)))
    (import "env" "memory64_map_layer" (func $map (param i32) (result i64)))
    (import "env" "memory64_read" (func $read (param i64 i32 i32) (result i32)))
    (import "env" "all_gather" (func $gather (param i32 i32 i32) (result i32)))
    (memory (export "memory") 4)
    (table $t 100 funcref)
    (elem $e func $fine)
    (data $d "some bytes that are copied into the memory again and again")
    (func $fine (export "fine") (result i32) (i32.const 42))
    (func (export "enabled") (loop $next (drop (call $enabled)) (br $next)))
    (func (export "stats") (loop $next (drop (call $stats)) (br $next)))
    (func (export "map") (loop $next (drop (call $map (i32.const 7))) (br $next)))
    (func (export "read") (loop $next
        (drop (call $read (i64.const 0) (i32.const 1024) (i32.const 65536))) (br $next)))
    (func (export "gather") (loop $next
        (drop (call $gather (i32.const 16) (i32.const 16) (i32.const 16))) (br $next)))
    (func (export "init") (loop $next
        (memory.init $d (i32.const 0) (i32.const 0) (i32.const 50))
        (table.init $t $e (i32.const 0) (i32.const 0) (i32.const 1)) (br $next)))
    (func (export "bulk") (loop $next
        (memory.fill (i32.const 0) (i32.const 1) (i32.const 100000))
        (memory.copy (i32.const 10) (i32.const 0) (i32.const 100000))
        (table.copy $t $t (i32.const 5) (i32.const 0) (i32.const 50)) (br $next)))
    (func (export "grow") (loop $next
        (drop (memory.grow (i32.const 0)))
        (drop (table.grow $t (ref.null func) (i32.const 0))) (br $next)))
    (func $down (param i32) (result i32)
        (if (result i32) (local.get 0)
            (then (call $down (i32.sub (local.get 0) (i32.const 1))))
            (else (call $enabled))))
    (func (export "calls") (loop $next (drop (call $down (i32.const 500))) (br $next)))
    (func (export "plain") (loop $next (br $next))))"#;

const LOOPS: [&str; 10] =
    ["enabled", "stats", "map", "read", "gather", "init", "bulk", "grow", "calls", "plain"];

/// Guests that are used before a new one takes their place.
const USES: usize = 50;

#[test]
fn guests_that_are_stopped_anywhere_go_on() {
    common::each_engine("guests_that_are_stopped_anywhere_go_on", |engine| {
        let module = compile(engine);
        let workers: Vec<_> = (0..2)
            .map(|worker| {
                let module = module.clone();
                thread::spawn(move || stop_many(&*module, worker, stops() / 2))
            })
            .collect();
        let mut stopped = BTreeMap::new();
        for worker in workers {
            for (export, times) in worker.join().unwrap() {
                *stopped.entry(export).or_insert(0) += times;
            }
        }
        assert!(stopped.values().sum::<usize>() >= stops() / 2 * 2, "{stopped:?}");
        assert_eq!(stopped.len(), LOOPS.len(), "{stopped:?}");
    });
}

fn compile(engine: &Arc<dyn Engine>) -> Arc<dyn Module> {
    engine.compile(&wat::parse_str(GUEST).unwrap()).unwrap()
}

/// Stops guests in loops, and checks after each time that they still work.
fn stop_many(module: &dyn Module, worker: usize, stops: usize) -> BTreeMap<&'static str, usize> {
    let mut stopped = BTreeMap::new();
    let mut guest = None::<Box<dyn Runtime>>;
    for turn in 0..stops {
        if turn % USES == 0 {
            // Times that differ, so that stops fall everywhere.
            let micros = 100 + (turn / USES * 37 + worker * 13) as u64 % 700;
            guest = Some(start(module, Duration::from_micros(micros)));
        }
        let guest = guest.as_mut().unwrap();
        let export = LOOPS[(turn + worker) % LOOPS.len()];
        match guest.call(export, &[]) {
            Err(Error::Trap { kind: TrapKind::DeadlineExceeded(_), .. }) => {}
            other => panic!("{export}: {other:?}"),
        }
        *stopped.entry(export).or_insert(0) += 1;
        match guest.call("fine", &[]) {
            Ok(values) => assert_eq!(values, [Value::I32(42)], "after {export}"),
            // The thread did not run in time.
            Err(Error::Trap { kind: TrapKind::DeadlineExceeded(_), .. }) => {}
            Err(error) => panic!("after {export}: {error}"),
        }
    }
    stopped
}

fn start(module: &dyn Module, limit: Duration) -> Box<dyn Runtime> {
    let mut guest = module.instantiate(&Limits::default().call_time(limit)).unwrap();
    guest.create_memory64(&MemorySpec::host(1 << 20)).unwrap();
    guest
}

/// No handler is set for signals that are an embedder's, such as SIGUSR1.
#[cfg(target_os = "linux")]
#[test]
fn signals_of_the_embedder_stay_its_own() {
    const SIGUSR1: u32 = 10;
    const SIGUSR2: u32 = 12;
    common::each_engine("signals_of_the_embedder_stay_its_own", |engine| {
        let mut guest = start(&*compile(engine), Duration::from_millis(5));
        guest.call("enabled", &[]).unwrap_err();
        let status = std::fs::read_to_string("/proc/self/status").unwrap();
        let caught = status.lines().find_map(|line| line.strip_prefix("SigCgt:")).unwrap();
        let caught = u64::from_str_radix(caught.trim(), 16).unwrap();
        for signal in [SIGUSR1, SIGUSR2] {
            assert_eq!(caught & 1 << (signal - 1), 0, "signal {signal} has a handler");
        }
    });
}

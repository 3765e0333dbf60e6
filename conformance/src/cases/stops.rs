//! Guests that are stopped in the middle of what the host or the engine does for them.

use std::sync::Arc;
use std::thread;
use std::time::Duration;

use polychord_runtime_api::{
    Engine, Error, Limits, MemorySpec, Module, Result, Runtime, TrapKind, Value,
};

use crate::check::{equal, holds};
use crate::guest::{self, TIME_LIMIT};
use crate::{Case, Failure, Outcome};

/// The table of this group.
pub const CASES: &[Case] = &[Case {
    name: "limits/stopped_anywhere",
    promise: "a guest that is stopped in or between imports, bulk instructions and calls goes on",
    needs: TIME_LIMIT.threads(),
    run: stopped_anywhere,
}];

/// Stops in all, unless the variable says another number.
const STOPS: usize = 400;
const VARIABLE: &str = "POLYCHORD_STOPS";

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

/// Times that a guest is stopped before a new one takes its place.
const USES: usize = 50;
const THREADS: usize = 2;

/// A guest that is stopped in or between imports, bulk instructions and calls goes on.
pub fn stopped_anywhere(engine: &dyn Engine) -> Outcome {
    let stops = match std::env::var(VARIABLE) {
        Ok(stops) => stops.parse()?,
        Err(_) => STOPS,
    };
    let module = guest::compile(engine, GUEST)?;
    let workers: Vec<_> = (0..THREADS)
        .map(|worker| {
            let module = module.clone();
            thread::spawn(move || stop_many(&module, worker, stops / THREADS))
        })
        .collect();
    for worker in workers {
        worker.join().map_err(|_| Failure::new("a thread panicked"))??;
    }
    Ok(())
}

/// Stops guests in loops, and checks after each time that they still work.
fn stop_many(module: &Arc<dyn Module>, worker: usize, stops: usize) -> Outcome {
    let mut guest = start(module, 0, worker)?;
    for turn in 0..stops {
        if turn % USES == 0 {
            guest = start(module, turn, worker)?;
        }
        let export = LOOPS[(turn + worker) % LOOPS.len()];
        let stopped = guest.call(export, &[]);
        holds(is_deadline(&stopped), || format!("{export} ended with {stopped:?}"))?;
        let after = guest.call("fine", &[]);
        // A thread that did not run in time is stopped, too.
        if !is_deadline(&after) {
            equal(&format!("after {export}"), after?, vec![Value::I32(42)])?;
        }
    }
    Ok(())
}

/// A guest whose time differs from that of the one before, so that stops fall everywhere.
fn start(module: &Arc<dyn Module>, turn: usize, worker: usize) -> Result<Box<dyn Runtime>> {
    let micros = 100 + (turn / USES * 37 + worker * 13) as u64 % 700;
    let limits = Limits::default().call_time(Duration::from_micros(micros));
    let mut guest = module.instantiate(&limits)?;
    guest.create_memory64(&MemorySpec::host(1 << 20))?;
    Ok(guest)
}

fn is_deadline<T>(result: &Result<T>) -> bool {
    matches!(result, Err(Error::Trap { kind: TrapKind::DeadlineExceeded(_), .. }))
}

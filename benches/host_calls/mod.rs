//! What calls between host and guest cost, beside the engine's own interface in the same run.
//!
//! Each backend has a benchmark of it (`backend-*/benches/host_calls.rs`), since it alone knows its engine:
//!
//! ```console
//! $ cargo bench --workspace --features wasmtime,wasmedge --bench host_calls
//! ```

use std::time::Instant;

use polychord_runtime_api::imports::{Caller, Imports};
use polychord_runtime_api::{
    Engine, FunctionType, Instantiation, Limits, Runtime, Value, ValueType,
};

/// A function for the host to call, and loops that call functions of the host.
pub(crate) const GUEST: &str = r#"(module
    (import "host" "typed" (func $typed (param i32 i32) (result i32)))
    (import "host" "untyped" (func $untyped (param i32 i32) (result i32)))
    (memory (export "memory") 1)
    (func (export "add") (param i32 i32) (result i32) (i32.add (local.get 0) (local.get 1)))
    (func (export "call_typed") (param $times i32) (result i32)
        (local $sum i32)
        (loop $again
            (local.set $sum (call $typed (local.get $sum) (local.get $times)))
            (br_if $again (local.tee $times (i32.sub (local.get $times) (i32.const 1)))))
        (local.get $sum))
    (func (export "call_untyped") (param $times i32) (result i32)
        (local $sum i32)
        (loop $again
            (local.set $sum (call $untyped (local.get $sum) (local.get $times)))
            (br_if $again (local.tee $times (i32.sub (local.get $times) (i32.const 1)))))
        (local.get $sum)))"#;

/// Does something this many times.
pub(crate) type Run<'a> = Box<dyn FnMut(i32) + 'a>;

/// What is measured.
pub(crate) const WHAT: [&str; 4] = [
    "guest to host, typed",
    "guest to host, untyped",
    "host to guest, typed",
    "host to guest, untyped",
];
/// How often it is done in a turn, and how many turns there are.
const TIMES: i32 = 2000;
const TURNS: usize = 200;

/// Measures each of [`WHAT`] by the engine's own interface, where it has one, and by ours, in turn.
pub(crate) fn compare(name: &str, engine: &dyn Engine, own: [Option<Run<'_>>; 4]) {
    println!("| {name} | its own, ns | ours, ns | ratio |\n| --- | --- | --- | --- |");
    for ((what, own), index) in WHAT.into_iter().zip(own).zip(0..) {
        let mut guest = guest(engine);
        let mut ours = ours(&mut *guest, index);
        let Some(mut own) = own else {
            println!(
                "| {what} | | {:.1} | |",
                median(&mut (0..TURNS).map(|_| turn(&mut ours)).collect())
            );
            continue;
        };
        let (mut theirs, mut mine) = (Vec::new(), Vec::new());
        for round in 0..TURNS {
            // The order changes from round to round.
            if round % 2 == 0 {
                theirs.push(turn(&mut own));
                mine.push(turn(&mut ours));
            } else {
                mine.push(turn(&mut ours));
                theirs.push(turn(&mut own));
            }
        }
        let (theirs, mine) = (median(&mut theirs), median(&mut mine));
        println!("| {what} | {theirs:.1} | {mine:.1} | {:.2} |", mine / theirs);
    }
}

fn guest(engine: &dyn Engine) -> Box<dyn Runtime> {
    let mut imports = Imports::new();
    imports
        .function("host", "typed", |_: &mut Caller<'_>, (a, b): (i32, i32)| a.wrapping_add(b))
        .unwrap();
    let ty = FunctionType { params: vec![ValueType::I32; 2], results: vec![ValueType::I32] };
    let add = |_: &mut Caller<'_>, args: &[Value], results: &mut [Value]| {
        if let [Value::I32(a), Value::I32(b)] = args {
            results[0] = Value::I32(a.wrapping_add(*b));
        }
        Ok(())
    };
    imports.untyped("host", "untyped", ty, add).unwrap();
    let module = engine.compile(&wat::parse_str(GUEST).unwrap()).unwrap();
    let start = Instantiation::new(&Limits::default()).imports(&imports);
    module.instantiate_with(start).unwrap()
}

fn ours(guest: &mut dyn Runtime, what: usize) -> Run<'_> {
    match what {
        0 => Box::new(|times| {
            guest.call_typed::<_, i32>("call_typed", (times,)).unwrap();
        }),
        1 => Box::new(|times| {
            guest.call_typed::<_, i32>("call_untyped", (times,)).unwrap();
        }),
        2 => Box::new(|times| {
            for number in 0..times {
                let sum: i32 = guest.call_typed("add", (number, 1)).unwrap();
                assert_eq!(sum, number + 1);
            }
        }),
        _ => Box::new(|times| {
            for number in 0..times {
                let mut results = [Value::I32(0)];
                let args = [Value::I32(number), Value::I32(1)];
                guest.call_into("add", &args, &mut results).unwrap();
                assert_eq!(results, [Value::I32(number + 1)]);
            }
        }),
    }
}

/// Nanoseconds of one time.
fn turn(run: &mut Run<'_>) -> f64 {
    let start = Instant::now();
    run(TIMES);
    start.elapsed().as_secs_f64() * 1e9 / f64::from(TIMES)
}

fn median(times: &mut Vec<f64>) -> f64 {
    times.sort_by(f64::total_cmp);
    times[times.len() / 2]
}

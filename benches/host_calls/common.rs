//! What one call of a function of the host costs, beside the engine's own API in the same run.

use std::time::Instant;

use polychord_runtime_api::imports::Imports;
use polychord_runtime_api::{
    Engine, FunctionType, Instantiation, Limits, Runtime, Value, ValueType,
};

/// Calls `add` as often as it is told, and adds what it returns.
pub(crate) const GUEST: &str = r#"(module
    (import "host" "add" (func $add (param i32 i32) (result i32)))
    (func (export "run") (param $left i32) (result i32)
        (local $sum i32)
        (loop $next
            (local.set $sum (call $add (local.get $sum) (local.get $left)))
            (br_if $next (local.tee $left (i32.sub (local.get $left) (i32.const 1)))))
        (local.get $sum)))"#;

/// Calls in one run, and runs of which the fastest counts.
pub(crate) const CALLS: i32 = 1_000_000;
const RUNS: u32 = 15;

/// The time of one call in nanoseconds, of a run that makes [`CALLS`] of them.
pub(crate) fn per_call(mut run: impl FnMut() -> i32) -> f64 {
    let once = |_| {
        let start = Instant::now();
        assert_eq!(run(), (1..=CALLS).fold(0, i32::wrapping_add));
        start.elapsed().as_secs_f64()
    };
    (0..RUNS).map(once).fold(f64::INFINITY, f64::min) * 1e9 / f64::from(CALLS)
}

/// A typed and an untyped function.
fn imports() -> [Imports; 2] {
    let (mut typed, mut untyped) = (Imports::new(), Imports::new());
    let add = typed.function("host", "add", |_, (a, b): (i32, i32)| a.wrapping_add(b));
    add.expect("there is no other");
    let ty = FunctionType { params: vec![ValueType::I32; 2], results: vec![ValueType::I32] };
    let add = untyped.untyped("host", "add", ty, |_, args, results| {
        if let [Value::I32(a), Value::I32(b)] = args {
            results[0] = Value::I32(a.wrapping_add(*b));
        }
        Ok(())
    });
    add.expect("there is no other");
    [typed, untyped]
}

/// Measures Polychord, and prints it beside what the engine itself takes.
pub(crate) fn compare(engine: &dyn Engine, own: &mut [(&str, &mut dyn FnMut() -> i32)]) {
    let wasm = wat::parse_str(GUEST).expect("it is a module");
    let module = engine.compile(&wasm).expect("it is compiled");
    let limits = Limits::default();
    let start = |imports: Imports| {
        let with = Instantiation::new(&limits).imports(&imports);
        module.instantiate_with(with).expect("it starts")
    };
    let mut guests = imports().map(start);
    let run = |guest: &mut Box<dyn Runtime>| {
        let results = guest.call("run", &[Value::I32(CALLS)]).expect("it runs");
        results[0].as_i32().unwrap_or(0)
    };
    let has = engine.capabilities();
    println!("{} {} ({}), ns per call:", has.engine, has.version, has.execution);
    for (name, own) in own {
        println!("  {name:32} {:8.1}", per_call(own));
    }
    for (name, guest) in ["Imports::function", "Imports::untyped"].into_iter().zip(&mut guests) {
        println!("  {name:32} {:8.1}", per_call(|| run(guest)));
    }
}

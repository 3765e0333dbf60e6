//! What one call of a function of the host costs, beside the engine's own API in the same run.

use std::time::Instant;

use polychord_runtime_api::imports::{HostError, Imports};
use polychord_runtime_api::{
    Caller, Engine, FunctionType, Instantiation, Limits, Value, ValueType,
};

/// Calls `add` as often as it is told, and adds what it returns.
pub(crate) const GUEST: &str = r#"(module
    (import "host" "add" (func $add (param i32 i32) (result i32)))
    (memory (export "memory") 1)
    (func (export "run") (param $left i32) (result i32)
        (local $sum i32)
        (loop $next
            (local.set $sum (call $add (local.get $sum) (local.get $left)))
            (br_if $next (local.tee $left (i32.sub (local.get $left) (i32.const 1)))))
        (local.get $sum)))"#;

/// Calls in one run, and runs of which the fastest counts: a run is short, so that some are not
/// interrupted by whatever else the machine does.
pub(crate) const CALLS: i32 = 50_000;
const RUNS: u32 = 400;

/// A typed function that cannot fail: engines leave out of its call what only others need.
pub(crate) const ADDS: &str = "typed";
/// A typed function that may return an error.
pub(crate) const MAY_FAIL: &str = "typed, may fail";
/// A typed function that may fail and reads a number from the guest's memory.
pub(crate) const READS: &str = "typed, reads memory";
/// A function of values.
pub(crate) const UNTYPED: &str = "untyped";

/// One that is measured: what it is, and a run of [`CALLS`] calls.
pub(crate) type Run<'a> = (&'static str, &'a mut dyn FnMut() -> i32);

/// The time of one call in nanoseconds.
fn per_call(run: &mut dyn FnMut() -> i32) -> f64 {
    let start = Instant::now();
    assert_eq!(run(), (1..=CALLS).fold(0, i32::wrapping_add));
    start.elapsed().as_secs_f64() * 1e9 / f64::from(CALLS)
}

/// The same functions in each way.
fn imports() -> [(&'static str, Imports); 4] {
    let [mut adds, mut may_fail, mut reads, mut untyped] = [(); 4].map(|()| Imports::new());
    let new = "there is no other";
    adds.function("host", "add", |_, (a, b): (i32, i32)| a.wrapping_add(b)).expect(new);
    let add = |_: &mut Caller<'_>, (a, b): (i32, i32)| match b {
        ..0 => Err(HostError::new("it is negative")),
        _ => Ok(a.wrapping_add(b)),
    };
    may_fail.function("host", "add", add).expect(new);
    let add = |caller: &mut Caller<'_>, (a, b): (i32, i32)| {
        let zero: i32 = caller.read_value(16_u32)?;
        Ok::<_, HostError>(a.wrapping_add(b).wrapping_add(zero))
    };
    reads.function("host", "add", add).expect(new);
    let ty = FunctionType { params: vec![ValueType::I32; 2], results: vec![ValueType::I32] };
    let add = untyped.untyped("host", "add", ty, |_, args, results| {
        if let [Value::I32(a), Value::I32(b)] = args {
            results[0] = Value::I32(a.wrapping_add(*b));
        }
        Ok(())
    });
    add.expect(new);
    [(ADDS, adds), (MAY_FAIL, may_fail), (READS, reads), (UNTYPED, untyped)]
}

/// Measures Polychord and the engine itself in turn, and prints the fastest of each.
pub(crate) fn compare(engine: &dyn Engine, own: &mut [Run<'_>]) {
    let wasm = wat::parse_str(GUEST).expect("it is a module");
    let module = engine.compile(&wasm).expect("it is compiled");
    let limits = Limits::default();
    let has = engine.capabilities();
    println!("{} {} ({}), ns per call:", has.engine, has.version, has.execution);
    println!("  {:20} {:>12} {:>12} {:>8}", "", "the engine's", "Polychord's", "ratio");
    for (way, imports) in imports() {
        let with = Instantiation::new(&limits).imports(&imports);
        let mut guest = module.instantiate_with(with).expect("it starts");
        let mut ours = || {
            let results = guest.call("run", &[Value::I32(CALLS)]).expect("it runs");
            results[0].as_i32().unwrap_or(0)
        };
        let mut theirs = own.iter_mut().find(|(its, _)| *its == way);
        let mut fastest = [f64::INFINITY; 2];
        for _ in 0..RUNS {
            if let Some((_, theirs)) = &mut theirs {
                fastest[0] = fastest[0].min(per_call(theirs));
            }
            fastest[1] = fastest[1].min(per_call(&mut ours));
        }
        let [theirs, ours] = fastest;
        if theirs.is_finite() {
            println!("  {way:20} {theirs:12.1} {ours:12.1} {:8.2}", ours / theirs);
        } else {
            println!("  {way:20} {:>12} {ours:12.1}", "has none");
        }
    }
}

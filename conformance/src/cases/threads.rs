//! Guests and threads.

use std::thread;

use polychord_runtime_api::abi::PAGE;
use polychord_runtime_api::{
    Engine, LayerId, Limits, MemoryId, MemorySpec, Module, Runtime, Source, TrapKind, Value,
};

use crate::check::{equal, same_bytes, trapped};
use crate::guest::{self, PAGE_LEN, THREADS};
use crate::{Case, Failure, Outcome};

/// The table of this group.
pub const CASES: &[Case] = &[
    Case {
        name: "threads/moved",
        promise: "a guest moves between threads between calls",
        needs: THREADS,
        run: moved,
    },
    Case {
        name: "threads/at_once",
        promise: "eight guests run at once, each with memories, layers and traps of its own",
        needs: THREADS,
        run: at_once,
    },
    Case {
        name: "threads/compile_at_once",
        promise: "modules are compiled and started by many threads at once",
        needs: THREADS,
        run: compile_at_once,
    },
];

const WAT: &str = r#"(module
    (import "env" "memory64_load_layer" (func $load (param i32 i32 i32) (result i32)))
    (memory (export "memory") 2)
    (global $count (mut i32) (i32.const 0))
    (func (export "count") (result i32)
        (global.set $count (i32.add (global.get $count) (i32.const 1)))
        (global.get $count))
    (func (export "trap") (result i32) (i32.load (i32.const -1)))
    (func (export "load") (param i32) (result i32)
        (call $load (local.get 0) (i32.const 16) (i32.const 65536)))
    (func (export "sum") (param $at i32) (param $len i32) (result i64)
        (local $sum i64)
        (loop $next
            (local.set $sum (i64.add (i64.mul (local.get $sum) (i64.const 31))
                (i64.load8_u (local.get $at))))
            (local.set $at (i32.add (local.get $at) (i32.const 1)))
            (br_if $next (local.tee $len (i32.sub (local.get $len) (i32.const 1)))))
        (local.get $sum)))"#;

/// A guest moves between threads between calls.
pub fn moved(engine: &dyn Engine) -> Outcome {
    let mut runtime = guest::start(engine, WAT)?;
    for count in 0..6 {
        let here = runtime.call("count", &[])?;
        equal("here", here, vec![Value::I32(2 * count + 1)])?;
        let there = thread::spawn(move || {
            let result = runtime.call("count", &[]);
            let trap = runtime.call("trap", &[]);
            (runtime, result, trap)
        });
        let (back, result, trap) = there.join().map_err(|_| Failure::new("panicked"))?;
        equal("there", result?, vec![Value::I32(2 * count + 2)])?;
        trapped(trap, "trap", TrapKind::MemoryOutOfBounds)?;
        runtime = back;
        trapped(runtime.call("trap", &[]), "trap", TrapKind::MemoryOutOfBounds)?;
    }
    // A guest may also end in another thread than the one that it began in.
    thread::spawn(move || drop(runtime)).join().map_err(|_| Failure::new("panicked"))
}

/// Eight guests run at once, each with memories, layers and traps of its own.
pub fn at_once(engine: &dyn Engine) -> Outcome {
    let module = guest::compile(engine, WAT)?;
    let file = guest::file(&guest::pattern(50, 4 * PAGE_LEN))?;
    let source = guest::mapped(file.path())?;
    thread::scope(|scope| {
        let spawn = |seed| {
            let (module, source) = (&*module, &source);
            scope.spawn(move || work(module, source, seed))
        };
        let threads: Vec<_> = (0..8).map(spawn).collect();
        for thread in threads {
            thread.join().map_err(|_| Failure::new("panicked"))??;
        }
        Ok(())
    })
}

/// What each of the threads does, with bytes that no other has.
fn work(module: &dyn Module, shared: &Source, seed: u32) -> Outcome {
    let mut runtime = module.instantiate(&Limits::default())?;
    let memory = runtime.create_memory64(&MemorySpec::guest(6 * PAGE))?;
    let own = guest::pattern(seed.into(), 10_000);
    runtime.register_layer(guest::layer(1, memory, 0, shared))?;
    let spec = guest::layer(2, memory, 5 * PAGE, &Source::from_bytes(own.clone()));
    runtime.register_layer(spec)?;
    for round in 1..=20 {
        let loaded = runtime.load_layer(LayerId(1))?;
        let address = loaded.address.and_then(|address| i32::try_from(address).ok());
        let address = address.ok_or_else(|| Failure::new("no address"))?;
        let mine = seed.to_le_bytes();
        runtime.write_memory64(memory, 3, &mine)?;
        let mut expected = guest::pattern(50, 4 * PAGE_LEN);
        expected[3..7].copy_from_slice(&mine);
        let got = runtime.call("sum", &[address.into(), Value::I32(5_000)])?;
        equal("sum of the layer", got, vec![Value::I64(sum(&expected[..5_000]))])?;
        runtime.release_layer(LayerId(1))?;

        equal("loaded", runtime.call("load", &[Value::I32(2)])?, vec![Value::I32(10_000)])?;
        same_bytes("its own layer", &runtime.memory()[16..10_016], &own)?;
        trapped(runtime.call("trap", &[]), "trap", TrapKind::MemoryOutOfBounds)?;
        equal("count", runtime.call("count", &[])?, vec![Value::I32(round)])?;
    }
    counters(&*runtime, memory)
}

fn counters(runtime: &dyn Runtime, memory: MemoryId) -> Outcome {
    equal("memory", memory, MemoryId(0))?;
    let stats = runtime.stats();
    equal("loads", stats.loads, 40)?;
    equal("releases", stats.releases, 20)?;
    equal("errors", stats.errors, 0)
}

fn sum(bytes: &[u8]) -> i64 {
    bytes.iter().fold(0, |sum: i64, byte| sum.wrapping_mul(31).wrapping_add((*byte).into()))
}

/// Modules are compiled and started by many threads at once.
pub fn compile_at_once(engine: &dyn Engine) -> Outcome {
    let work = |number: i32| {
        let wat = format!(r#"(module (func (export "it") (result i32) (i32.const {number})))"#);
        for _ in 0..5 {
            let mut runtime = guest::start(engine, &wat)?;
            equal("it", runtime.call("it", &[])?, vec![Value::I32(number)])?;
        }
        Ok::<_, Failure>(())
    };
    thread::scope(|scope| {
        let threads: Vec<_> = (0..8).map(|number| scope.spawn(move || work(number))).collect();
        for thread in threads {
            thread.join().map_err(|_| Failure::new("panicked"))??;
        }
        Ok(())
    })
}

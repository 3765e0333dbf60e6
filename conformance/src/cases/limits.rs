//! Limits on memory and time.

mod bulk;
mod watched;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread;
use std::time::{Duration, Instant};

use polychord_runtime_api::abi::PAGE;
use polychord_runtime_api::{Engine, Error, Limits, MemorySpec, Module, Result, TrapKind, Value};

use crate::check::{equal, holds, refused, trapped};
use crate::guest::{self, NOTHING, TIME_LIMIT};
use crate::{Case, Failure, Outcome};
use watched::{time_limit, within_a_minute};

/// The table of this group.
pub const CASES: &[Case] = &[
    Case {
        name: "limits/initial_memory",
        promise: "a guest that starts with more memory than the limit is not started",
        needs: NOTHING,
        run: initial_memory,
    },
    Case {
        name: "limits/private_memory",
        promise: "the limit holds for a memory that is not exported, too",
        needs: NOTHING,
        run: private_memory,
    },
    Case {
        name: "limits/growth_by_the_guest",
        promise: "a guest grows up to the limit, and beyond it `memory.grow` returns -1",
        needs: NOTHING,
        run: growth_by_the_guest,
    },
    Case {
        name: "limits/growth_by_the_host",
        promise: "a memory in the guest that does not fit below the limit is refused",
        needs: NOTHING,
        run: growth_by_the_host,
    },
    Case {
        name: "limits/the_modules_own",
        promise: "the module's own limit holds for guest and host as well",
        needs: NOTHING,
        run: the_modules_own,
    },
    Case {
        name: "limits/second_memory",
        promise: "the limit holds for each of several memories",
        needs: NOTHING.multi_memory(),
        run: second_memory,
    },
    Case {
        name: "limits/memory64",
        promise: "the limit holds for a 64-bit memory",
        needs: guest::MEMORY64,
        run: memory64,
    },
    Case {
        name: "limits/less_than_a_page",
        promise: "a limit below a page leaves a memory empty, with a time limit, too",
        needs: NOTHING,
        run: less_than_a_page,
    },
    Case {
        name: "limits/tables",
        promise: "a guest cannot grow its tables beyond a fixed limit",
        needs: NOTHING,
        run: tables,
    },
    Case {
        name: "limits/all_memories",
        promise: "all memories of a guest together keep a limit, whether exported or not",
        needs: NOTHING.multi_memory(),
        run: all_memories,
    },
    Case {
        name: "limits/all_tables",
        promise: "all tables of a guest together keep a limit",
        needs: NOTHING,
        run: all_tables,
    },
    Case {
        name: "limits/no_time_limit",
        promise: "without a time limit, or with the longest possible, a call is not stopped",
        needs: TIME_LIMIT,
        run: no_time_limit,
    },
    Case {
        name: "limits/time",
        promise: "a guest that loops for ever is stopped, and can be called again",
        needs: TIME_LIMIT,
        run: time,
    },
    Case {
        name: "limits/bulk_under_a_limit",
        promise: "with a time limit `memory.fill` and `memory.copy` do what they do without one",
        needs: TIME_LIMIT.multi_memory(),
        run: bulk::bulk_under_a_limit,
    },
    Case {
        name: "limits/bulk_in_wide_memories",
        promise: "with a time limit, bulk instructions work in 64-bit memories, and between these and others",
        needs: guest::MEMORY64.multi_memory().time_limit(),
        run: bulk::bulk_in_wide_memories,
    },
    Case {
        name: "limits/bulk_at_four_gibibytes",
        promise: "with a time limit, bulk instructions reach the end of 4 GiB, where no 32-bit address is left",
        needs: TIME_LIMIT.memory32_bytes(1 << 32),
        run: bulk::bulk_at_four_gibibytes,
    },
    Case {
        name: "limits/time_in_straight_code",
        promise: "a guest that calls the host and copies for long is stopped between two of them",
        needs: TIME_LIMIT,
        run: bulk::time_in_straight_code,
    },
    Case {
        name: "limits/time_in_the_start_function",
        promise: "the time limit holds for the start function",
        needs: TIME_LIMIT,
        run: time_in_the_start_function,
    },
    Case {
        name: "limits/time_spares_fast_calls",
        promise: "the time limit is one of each call, not of all of them",
        needs: TIME_LIMIT,
        run: time_spares_fast_calls,
    },
    Case {
        name: "limits/time_spares_other_guests",
        promise: "stopping one guest disturbs no other, in this thread or another",
        needs: TIME_LIMIT.threads(),
        run: time_spares_other_guests,
    },
];

const GROWING: &str = r#"(module (memory (export "memory") 2)
    (func (export "grow") (param i32) (result i32) (memory.grow (local.get 0))))"#;

fn memory_limit(pages: u64) -> Limits {
    Limits::default().memory_bytes(pages * PAGE)
}

/// A guest that starts with more memory than the limit is not started.
pub fn initial_memory(engine: &dyn Engine) -> Outcome {
    let module = guest::compile(engine, GROWING)?;
    for bytes in [0, PAGE, 2 * PAGE - 1] {
        let limits = Limits::default().memory_bytes(bytes);
        let error = refused(module.instantiate(&limits), &["131072", &bytes.to_string()])?;
        holds(matches!(error, Error::TooLarge { .. }), || error.to_string())?;
    }
    module.instantiate(&memory_limit(2))?;
    Ok(())
}

/// The limit holds for a memory that is not exported, too.
pub fn private_memory(engine: &dyn Engine) -> Outcome {
    let wat = r#"(module (memory 2)
        (func (export "grow") (param i32) (result i32) (memory.grow (local.get 0))))"#;
    let module = guest::compile(engine, wat)?;
    refused(module.instantiate(&memory_limit(1)), &[])?;
    let mut runtime = module.instantiate(&memory_limit(3))?;
    equal("to the limit", runtime.call("grow", &[1.into()])?, vec![Value::I32(2)])?;
    equal("beyond it", runtime.call("grow", &[1.into()])?, vec![Value::I32(-1)])
}

/// A guest grows up to the limit, and beyond it `memory.grow` returns -1.
pub fn growth_by_the_guest(engine: &dyn Engine) -> Outcome {
    let module = guest::compile(engine, GROWING)?;
    let mut runtime = module.instantiate(&memory_limit(10))?;
    for (by, before) in [(9, -1), (0, 2), (3, 2), (6, -1), (5, 5), (1, -1), (65_536, -1), (-1, -1)]
    {
        equal("size before", runtime.call("grow", &[by.into()])?, vec![Value::I32(before)])?;
    }
    equal("size", runtime.memory().len() as u64, 10 * PAGE)?;
    // By default only the engine and the address space are limits.
    let most = engine.capabilities().memory32_max_bytes.min(1 << 32);
    let rest = i32::try_from(most / PAGE)? - 2;
    let mut runtime = module.instantiate(&Limits::default())?;
    equal("too much", runtime.call("grow", &[(rest + 1).into()])?, vec![Value::I32(-1)])?;
    equal("all", runtime.call("grow", &[rest.into()])?, vec![Value::I32(2)])?;
    equal("size", runtime.memory().len() as u64, most)?;
    equal("one more", runtime.call("grow", &[1.into()])?, vec![Value::I32(-1)])
}

/// A memory in the guest that does not fit below the limit is refused.
pub fn growth_by_the_host(engine: &dyn Engine) -> Outcome {
    let module = guest::compile(engine, GROWING)?;
    let mut runtime = module.instantiate(&memory_limit(10))?;
    for bytes in [8 * PAGE + 1, 9 * PAGE, 1 << 32] {
        let made = runtime.create_memory64(&MemorySpec::guest(bytes));
        let error = refused(made, &["655360"])?;
        holds(matches!(error, Error::TooLarge { .. }), || error.to_string())?;
    }
    runtime.create_memory64(&MemorySpec::guest(8 * PAGE))?;
    equal("size", runtime.memory().len() as u64, 10 * PAGE)?;
    equal("by the guest", runtime.call("grow", &[1.into()])?, vec![Value::I32(-1)])?;
    refused(runtime.create_memory64(&MemorySpec::guest(1)), &[])?;
    // A memory of the host's is none of the guest's.
    runtime.create_memory64(&MemorySpec::host(20 * PAGE))?;
    equal("errors", runtime.stats().errors, 4)
}

/// The module's own limit holds for guest and host as well.
pub fn the_modules_own(engine: &dyn Engine) -> Outcome {
    let mut runtime = guest::start(engine, &GROWING.replace(" 2)", " 2 4)"))?;
    let error = refused(runtime.create_memory64(&MemorySpec::guest(3 * PAGE)), &[])?;
    let expected = matches!(error, Error::OutOfMemory { .. } | Error::TooLarge { .. });
    holds(expected, || error.to_string())?;
    equal("size", runtime.memory().len() as u64, 2 * PAGE)?;
    runtime.create_memory64(&MemorySpec::guest(PAGE))?;
    equal("beyond it", runtime.call("grow", &[2.into()])?, vec![Value::I32(-1)])?;
    equal("to the limit", runtime.call("grow", &[1.into()])?, vec![Value::I32(3)])
}

/// The limit holds for each of several memories.
pub fn second_memory(engine: &dyn Engine) -> Outcome {
    let wat = r#"(module (memory (export "memory") 1) (memory $other 2)
        (func (export "grow") (param i32) (result i32) (memory.grow $other (local.get 0))))"#;
    let module = guest::compile(engine, wat)?;
    refused(module.instantiate(&memory_limit(1)), &[])?;
    let mut runtime = module.instantiate(&memory_limit(4))?;
    equal("to the limit", runtime.call("grow", &[2.into()])?, vec![Value::I32(2)])?;
    equal("beyond it", runtime.call("grow", &[1.into()])?, vec![Value::I32(-1)])
}

/// The limit holds for a 64-bit memory.
pub fn memory64(engine: &dyn Engine) -> Outcome {
    let wat = r#"(module (memory (export "memory") i64 2)
        (func (export "grow") (param i64) (result i64) (memory.grow (local.get 0))))"#;
    let module = guest::compile(engine, wat)?;
    refused(module.instantiate(&memory_limit(1)), &["131072", "65536"])?;
    let mut runtime = module.instantiate(&memory_limit(10))?;
    for (by, before) in [(9, -1), (7, 2), (2, -1), (1_i64 << 48, -1), (-1, -1), (1, 9), (1, -1)] {
        equal("size before", runtime.call("grow", &[by.into()])?, vec![Value::I64(before)])?;
    }
    refused(runtime.create_memory64(&MemorySpec::guest(1)), &["655360"])?;
    equal("size", runtime.memory().len() as u64, 10 * PAGE)
}

/// A limit below a page leaves a memory empty, with a time limit, too.
pub fn less_than_a_page(engine: &dyn Engine) -> Outcome {
    let empty = guest::compile(engine, &GROWING.replace(" 2)", " 0)"))?;
    let none =
        guest::compile(engine, r#"(module (func (export "f") (result i32) (i32.const 7)))"#)?;
    let timed = engine.capabilities().time_limit.then_some(Duration::from_secs(3600));
    for bytes in [0, 1, PAGE - 1] {
        let limits = Limits::default().memory_bytes(bytes);
        for limits in [limits.clone(), limits.call_time(timed)] {
            equal("without a memory", none.instantiate(&limits)?.call("f", &[])?, vec![7.into()])?;
            // Refusing it keeps the promise.
            let Ok(mut runtime) = empty.instantiate(&limits) else { continue };
            equal("growth", runtime.call("grow", &[1.into()])?, vec![Value::I32(-1)])?;
            equal("nothing", runtime.call("grow", &[0.into()])?, vec![Value::I32(0)])?;
        }
    }
    Ok(())
}

/// A guest cannot make its tables so large that the host suffers.
pub fn tables(engine: &dyn Engine) -> Outcome {
    let wat = r#"(module (table $t 10 funcref)
        (func (export "grow") (param i32) (result i32)
            (table.grow $t (ref.null func) (local.get 0))))"#;
    let mut runtime = guest::start(engine, wat)?;
    for by in [i32::MAX, -1, 1 << 28] {
        equal("much too large", runtime.call("grow", &[by.into()])?, vec![Value::I32(-1)])?;
    }
    equal("reasonable", runtime.call("grow", &[1_000.into()])?, vec![Value::I32(10)])?;
    let module = guest::compile(engine, "(module (table 0x10000000 funcref))")?;
    refused(module.instantiate(&Limits::default()), &[])?;
    Ok(())
}

/// All memories of a guest together keep a limit, whether exported or not.
pub fn all_memories(engine: &dyn Engine) -> Outcome {
    let grow = |index| {
        format!("(func (export \"grow{index}\") (result i32) (memory.grow {index} (i32.const 1)))")
    };
    let functions: String = (0..4).map(grow).collect();
    // The second one leaves what it cannot use to the others.
    let wat = format!(
        "(module (memory (export \"memory\") 1) (memory 1 1) (memory 2) (memory 0) {functions})"
    );
    let module = guest::compile(engine, &wat)?;
    let limits = memory_limit(8).total_bytes(10 * PAGE);
    let mut runtime = module.instantiate(&limits)?;
    let mut sizes = [1, 1, 2, 0];
    for _ in 0..6 {
        for (index, size) in sizes.iter_mut().enumerate() {
            let grown = runtime.call(&format!("grow{index}"), &[])?;
            let most = if index == 1 { 1 } else { 3 };
            let expected = if *size < most { *size } else { -1 };
            equal(&format!("memory {index}"), grown, vec![Value::I32(expected)])?;
            *size += i32::from(expected >= 0);
        }
    }
    equal("pages of all", sizes.iter().sum::<i32>(), 10)?;
    refused(module.instantiate(&limits.clone().total_bytes(5 * PAGE)), &["131072"])?;
    let many = refused(module.instantiate(&limits.memories(3)), &["4 memories", "3"])?;
    holds(matches!(many, Error::TooMany { .. }), || many.to_string())?;
    let private = "(memory 1)".repeat(17);
    let module = guest::compile(engine, &format!("(module {private})"))?;
    refused(module.instantiate(&Limits::default()), &["17 memories"])?;
    Ok(())
}

/// All tables of a guest together keep a limit.
pub fn all_tables(engine: &dyn Engine) -> Outcome {
    let wat = r#"(module (table $a 10 funcref) (table $b 10 funcref)
        (func (export "a") (param i32) (result i32) (table.grow $a (ref.null func) (local.get 0)))
        (func (export "b") (param i32) (result i32) (table.grow $b (ref.null func) (local.get 0))))"#;
    let module = guest::compile(engine, wat)?;
    let mut runtime = module.instantiate(&Limits::default())?;
    let half = 1 << 19;
    for table in ["a", "b"] {
        equal("beyond", runtime.call(table, &[(half - 9).into()])?, vec![Value::I32(-1)])?;
        equal("up to", runtime.call(table, &[(half - 10).into()])?, vec![Value::I32(10)])?;
    }
    refused(module.instantiate(&Limits::default().table_elements(19)), &["19"])?;
    refused(module.instantiate(&Limits::default().tables(1)), &["2 tables"])?;
    let large =
        guest::compile(engine, &format!("(module {})", "(table 0x100000 funcref)".repeat(3)))?;
    refused(large.instantiate(&Limits::default()), &["3145728", "1048576"])?;
    Ok(())
}

const LOOPING: &str = r#"(module
    (import "env" "memory64_is_enabled" (func $host (result i32)))
    (memory (export "memory") 64)
    (func (export "fine") (result i32) (i32.const 42))
    (func (export "loop") (loop $again (br $again)))
    (func (export "loop_with_host") (loop $again (drop (call $host)) (br $again)))
    (func (export "loop_with_fill")
        (loop $again
            (memory.fill (i32.const 0) (i32.const 1) (i32.const 0x400000)) (br $again)))
    (func (export "loop_with_grow")
        (loop $again (drop (memory.grow (i32.const 0))) (br $again)))
    (func $spin (param i32) (result i32)
        (if (result i32) (i32.lt_u (local.get 0) (i32.const 2)) (then (local.get 0))
            (else (i32.add (call $spin (i32.sub (local.get 0) (i32.const 1)))
                           (call $spin (i32.sub (local.get 0) (i32.const 2)))))))
    (func (export "loop_with_calls") (result i32) (call $spin (i32.const 90)))
    (func (export "fib") (param i32) (result i32) (call $spin (local.get 0))))"#;

/// Without a limit, or with the longest possible, a call takes its time.
pub fn no_time_limit(engine: &dyn Engine) -> Outcome {
    let module = guest::compile(engine, LOOPING)?;
    for call_time in [None, Some(Duration::MAX), Some(Duration::from_secs(1 << 40))] {
        let limits = Limits::default().call_time(call_time);
        let mut runtime = module.instantiate(&limits)?;
        equal("fib", runtime.call("fib", &[25.into()])?, vec![Value::I32(75_025)])?;
    }
    Ok(())
}

/// A guest that loops for ever is stopped, and can be called again.
pub fn time(engine: &dyn Engine) -> Outcome {
    let loops = ["loop", "loop_with_host", "loop_with_fill", "loop_with_grow", "loop_with_calls"];
    for export in loops {
        let module = guest::compile(engine, LOOPING)?;
        within_a_minute(export, move || {
            // Enough for a short call on a machine that has much else to do.
            let limit = Duration::from_millis(200);
            let mut runtime = module.instantiate(&time_limit(limit))?;
            for _ in 0..2 {
                let start = Instant::now();
                let result = runtime.call(export, &[]);
                let took = start.elapsed();
                trapped(result, export, TrapKind::DeadlineExceeded(limit))?;
                holds(took >= limit, || format!("stopped after only {took:?}"))?;
                equal("after it", runtime.call("fine", &[])?, vec![Value::I32(42)])?;
            }
            Ok::<_, Failure>(())
        })??;
    }
    Ok(())
}

/// The time limit holds for the start function.
pub fn time_in_the_start_function(engine: &dyn Engine) -> Outcome {
    let wat = "(module (func $main (loop $again (br $again))) (start $main))";
    let module = guest::compile(engine, wat)?;
    let limit = Duration::from_millis(30);
    let started = within_a_minute("the start function", move || {
        module.instantiate(&time_limit(limit)).map(drop)
    })?;
    trapped(started, "the start function", TrapKind::DeadlineExceeded(limit))?;
    let mut other = guest::start(engine, LOOPING)?;
    equal("another guest", other.call("fine", &[])?, vec![Value::I32(42)])
}

/// The time limit is one of each call, not of all of them.
pub fn time_spares_fast_calls(engine: &dyn Engine) -> Outcome {
    let module = guest::compile(engine, LOOPING)?;
    let limit = Duration::from_secs(2);
    let mut runtime = module.instantiate(&time_limit(limit))?;
    let start = Instant::now();
    while start.elapsed() < limit + limit / 4 {
        equal("fib", runtime.call("fib", &[15.into()])?, vec![Value::I32(610)])?;
    }
    Ok(())
}

/// Stopping one guest disturbs no other, in this thread or another.
pub fn time_spares_other_guests(engine: &dyn Engine) -> Outcome {
    let module = guest::compile(engine, LOOPING)?;
    let stopped = module.clone();
    let done = Arc::new(AtomicBool::new(false));
    let others: Vec<_> = [Limits::default(), time_limit(Duration::from_secs(600))]
        .into_iter()
        .map(|limits| spawn_worker(module.clone(), limits, done.clone()))
        .collect();
    let outcome = within_a_minute("a guest", move || stop_again_and_again(&stopped));
    done.store(true, Relaxed);
    for other in others {
        let calls = other.join().map_err(|_| Failure::new("a thread panicked"))??;
        holds(calls > 0, || "the other guest did not run".into())?;
    }
    outcome?
}

/// Calls that must all succeed, until told to end.
fn spawn_worker(
    module: Arc<dyn Module>,
    limits: Limits,
    done: Arc<AtomicBool>,
) -> thread::JoinHandle<Result<u64, Failure>> {
    thread::spawn(move || {
        let mut runtime = module.instantiate(&limits)?;
        let mut calls = 0;
        while calls == 0 || !done.load(Relaxed) {
            equal("fib", runtime.call("fib", &[27.into()])?, vec![Value::I32(196_418)])?;
            calls += 1;
        }
        Ok(calls)
    })
}

fn stop_again_and_again(module: &Arc<dyn Module>) -> Outcome {
    let limit = Duration::from_millis(15);
    let mut bystander = module.instantiate(&Limits::default())?;
    let mut runtime = module.instantiate(&time_limit(limit))?;
    for _ in 0..10 {
        trapped(runtime.call("loop", &[]), "loop", TrapKind::DeadlineExceeded(limit))?;
        equal("the same thread", bystander.call("fib", &[20.into()])?, vec![Value::I32(6_765)])?;
    }
    Ok(())
}

//! Calls that are stopped by hand, from another thread.

use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use polychord_runtime_api::imports::{HostError, Imports};
use polychord_runtime_api::{
    Engine, Error, Instantiation, Interrupter, Limits, Result, Runtime, TrapKind, Value,
};

use crate::check::{equal, holds, trapped};
use crate::guest::{self, NOTHING, TIME_LIMIT};
use crate::{Case, Failure, Outcome};

/// The table of this group.
pub const CASES: &[Case] = &[
    Case {
        name: "interrupt/loop",
        promise: "a call without an end is stopped from another thread, and the guest goes on",
        needs: TIME_LIMIT,
        run: endless,
    },
    Case {
        name: "interrupt/only_what_runs",
        promise: "where no call runs nothing is stopped, and the next call runs as any other",
        needs: TIME_LIMIT,
        run: only_what_runs,
    },
    Case {
        name: "interrupt/within",
        promise: "a call within a call is stopped with the outer one, though a function catches it",
        needs: TIME_LIMIT.reentrance(),
        run: within,
    },
    Case {
        name: "interrupt/not_asked_for",
        promise: "a guest that was not started for it cannot be interrupted, and says what to do",
        needs: NOTHING,
        run: not_asked_for,
    },
    Case {
        name: "interrupt/time_limit",
        promise: "a guest with a time limit can be interrupted before, and each says what it was",
        needs: TIME_LIMIT,
        run: beside_a_time_limit,
    },
];

const GUEST: &str = r#"(module (memory (export "memory") 1)
    (func (export "endless") (loop $next
        (i32.store (i32.const 0) (i32.add (i32.load (i32.const 0)) (i32.const 1))) (br $next)))
    (func (export "fine") (result i32) (i32.const 42)))"#;

/// Interrupts until a call was running.
fn interrupt_soon(interrupter: Interrupter) -> thread::JoinHandle<Duration> {
    thread::spawn(move || {
        thread::sleep(Duration::from_millis(20));
        let start = Instant::now();
        while !interrupter.interrupt() && start.elapsed() < Duration::from_secs(20) {
            thread::yield_now();
        }
        start.elapsed()
    })
}

fn begin(engine: &dyn Engine, limits: &Limits) -> Result<Box<dyn Runtime>, Failure> {
    Ok(guest::compile(engine, GUEST)?.instantiate(limits)?)
}

/// A call without an end is stopped from another thread, and the guest goes on.
pub fn endless(engine: &dyn Engine) -> Outcome {
    let mut runtime = begin(engine, &Limits::default().interruptible(true))?;
    for turn in 1..=3 {
        let stopper = interrupt_soon(runtime.interrupter()?);
        trapped(runtime.call("endless", &[]), "endless", TrapKind::Interrupted)?;
        stopper.join().map_err(|_| Failure::new("a thread panicked"))?;
        holds(runtime.memory()[..4] != [0; 4], || format!("it did not run, turn {turn}"))?;
        equal("after it", runtime.call("fine", &[])?, vec![Value::I32(42)])?;
    }
    Ok(())
}

/// Where no call runs nothing is stopped, and the next call runs as any other.
pub fn only_what_runs(engine: &dyn Engine) -> Outcome {
    let mut runtime = begin(engine, &Limits::default().interruptible(true))?;
    let interrupter = runtime.interrupter()?;
    equal("before any call", interrupter.interrupt(), false)?;
    equal("a call", runtime.call("fine", &[])?, vec![Value::I32(42)])?;
    equal("between calls", interrupter.clone().interrupt(), false)?;
    equal("another call", runtime.call("fine", &[])?, vec![Value::I32(42)])?;
    drop(runtime);
    equal("after the guest", interrupter.interrupt(), false)
}

/// A call within a call is stopped with the outer one, though a function catches it.
pub fn within(engine: &dyn Engine) -> Outcome {
    let (sender, receiver) = mpsc::channel();
    let mut imports = Imports::new();
    imports.function("host", "back", move |caller, (): ()| {
        let inner = caller.call("endless", &[], &mut []);
        let interrupted = matches!(inner, Err(Error::Trap { kind: TrapKind::Interrupted, .. }));
        sender.send(interrupted)?;
        Ok::<_, HostError>(())
    })?;
    let module = guest::compile(
        engine,
        r#"(module (import "host" "back" (func $back))
            (func (export "endless") (loop $next (br $next)))
            (func (export "run") (call $back) (loop $next (br $next))))"#,
    )?;
    let limits = Limits::default().interruptible(true);
    let mut runtime = module.instantiate_with(Instantiation::new(&limits).imports(&imports))?;
    let stopper = interrupt_soon(runtime.interrupter()?);
    trapped(runtime.call("run", &[]), "run", TrapKind::Interrupted)?;
    stopper.join().map_err(|_| Failure::new("a thread panicked"))?;
    equal("the call within", receiver.try_recv().ok(), Some(true))
}

/// A guest that was not started for it cannot be interrupted, and says what to do.
pub fn not_asked_for(engine: &dyn Engine) -> Outcome {
    let runtime = begin(engine, &Limits::default())?;
    match runtime.interrupter() {
        Err(error @ Error::NotInterruptible) => {
            let message = error.to_string();
            holds(message.contains("Limits::interruptible"), || message)
        }
        other => Err(Failure::new(format!("an interrupter: {other:?}"))),
    }
}

/// A guest with a time limit can be interrupted before, and each says what it was.
pub fn beside_a_time_limit(engine: &dyn Engine) -> Outcome {
    let mut runtime = begin(engine, &Limits::default().call_time(Duration::from_secs(3_600)))?;
    let stopper = interrupt_soon(runtime.interrupter()?);
    trapped(runtime.call("endless", &[]), "endless", TrapKind::Interrupted)?;
    stopper.join().map_err(|_| Failure::new("a thread panicked"))?;
    let limit = Duration::from_millis(30);
    let mut runtime = begin(engine, &Limits::default().call_time(limit).interruptible(true))?;
    trapped(runtime.call("endless", &[]), "endless", TrapKind::DeadlineExceeded(limit))?;
    equal("after it", runtime.call("fine", &[])?, vec![Value::I32(42)])
}

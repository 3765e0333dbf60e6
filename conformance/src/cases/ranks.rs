//! Guests that compute together, each in a thread of its own.

use std::thread;
use std::time::Duration;

use polychord_runtime_api::abi::code;
use polychord_runtime_api::ranks::{Rank, Threads};
use polychord_runtime_api::{Engine, Limits, Result, Runtime, TrapKind, Value};

use crate::check::{equal, holds, trapped};
use crate::guest::{self, THREADS};
use crate::{Case, Failure, Outcome};

/// The table of this group, for ranks that are threads of one process.
pub const CASES: &[Case] = &cases::<Threads>();

/// How the ranks of a group are made: by the transport that a test is about.
///
/// ```
/// use polychord_conformance::cases::ranks::{self, Connect};
/// use polychord_conformance::{Engine, Result};
/// use polychord_runtime_api::Rank;
///
/// /// Ranks over a transport of one's own; here that of the library.
/// struct Mine;
///
/// impl Connect for Mine {
///     fn group(count: usize) -> Result<Vec<Rank>> {
///         Rank::group(count)
///     }
/// }
///
/// fn check(engine: &dyn Engine) -> bool {
///     ranks::cases::<Mine>().iter().all(|case| case.check(engine).is_ok())
/// }
/// ```
pub trait Connect {
    /// All ranks of a group, in their order.
    ///
    /// # Errors
    ///
    /// Returns the errors of the transport.
    fn group(count: usize) -> Result<Vec<Rank>>;
}

impl Connect for Threads {
    fn group(count: usize) -> Result<Vec<Rank>> {
        Rank::group(count)
    }
}

/// The cases of this group for ranks that any transport connects.
#[must_use]
pub const fn cases<C: Connect>() -> [Case; 4] {
    [
        Case {
            name: "ranks/gather",
            promise: "guests exchange what each has computed, again and again",
            needs: THREADS,
            run: gather::<C>,
        },
        Case {
            name: "ranks/sizes",
            promise: "sizes that do not fit, or differ, are refused to all guests of a group",
            needs: THREADS,
            run: sizes::<C>,
        },
        Case {
            name: "ranks/trap",
            promise: "a guest that traps stops those that wait for it, and no other guest",
            needs: THREADS,
            run: trap::<C>,
        },
        Case {
            name: "ranks/time",
            promise: "a guest that waits for others is stopped when its time is over",
            needs: THREADS.time_limit(),
            run: time::<C>,
        },
    ]
}

const WAT: &str = r#"(module
    (import "env" "all_gather" (func $gather (param i32 i32 i32) (result i32)))
    (memory (export "memory") 8)
    (func (export "gather") (param i32 i32 i32) (result i32)
        (call $gather (local.get 0) (local.get 1) (local.get 2)))
    (func (export "trap") (result i32) (i32.load (i32.const -1)))
    (func (export "insist") (param i32 i32 i32) (result i32)
        (drop (call $gather (local.get 0) (local.get 1) (local.get 2)))
        (loop $for_ever (br $for_ever)) (unreachable)))"#;

const RANKS: usize = 3;

/// Runs `work` for each rank of a group, all at the same time.
fn group<C: Connect>(
    engine: &dyn Engine,
    limits: &Limits,
    work: impl Fn(&Rank, &mut dyn Runtime) -> Outcome + Sync,
) -> Outcome {
    let module = guest::compile(engine, WAT)?;
    thread::scope(|scope| {
        let spawn = |rank: Rank| {
            let (module, work) = (&*module, &work);
            scope.spawn(move || {
                let mut runtime = module.instantiate(limits)?;
                runtime.join(rank.clone())?;
                work(&rank, &mut *runtime)
            })
        };
        let threads: Vec<_> = C::group(RANKS)?.into_iter().map(spawn).collect();
        let outcomes: Vec<_> = threads.into_iter().map(thread::ScopedJoinHandle::join).collect();
        outcomes.into_iter().try_for_each(|it| it.map_err(|_| Failure::new("panicked"))?)
    })
}

fn ask(runtime: &mut dyn Runtime, args: [i32; 3]) -> Result<i32, Failure> {
    let results = runtime.call("gather", &args.map(Value::I32))?;
    let result = results.first().and_then(|value| value.as_i32());
    result.ok_or_else(|| Failure::new(format!("gather returned {results:?}")))
}

/// Guests exchange what each has computed, again and again.
pub fn gather<C: Connect>(engine: &dyn Engine) -> Outcome {
    group::<C>(engine, &Limits::default(), |rank, runtime| {
        // The last chunk lacks something; or it lacks everything; or chunks are large.
        for (round, (chunk, total)) in
            [(4, 11), (4, 8), (1, 3), (0, 0), (150_000, 400_000), (4, 11)].into_iter().enumerate()
        {
            let whole = guest::pattern(round as u64, total);
            let own =
                |index: usize| if index / chunk.max(1) == rank.index() { whole[index] } else { 0 };
            let part: Vec<_> = (0..total).map(own).collect();
            runtime.memory_mut()[64..64 + total].copy_from_slice(&part);
            let args = [64, i32::try_from(chunk)?, i32::try_from(total)?];
            equal("result", ask(runtime, args)?, 0)?;
            equal("what was gathered", &runtime.memory()[64..64 + total], &*whole)?;
        }
        Ok(())
    })
}

/// Sizes that do not fit, or differ, are refused to all guests of a group.
pub fn sizes<C: Connect>(engine: &dyn Engine) -> Outcome {
    for wrong in [[16, 3, 12], [16, 13, 12], [16, 5, 12], [16, 4, 11], [0, 4, 12], [-4, 4, 12]] {
        group::<C>(engine, &Limits::default(), |rank, runtime| {
            let args = if rank.index() == 1 { wrong } else { [16, 4, 12] };
            let result = ask(runtime, args)?;
            let of_all = [code::INVALID_RANGE, code::INTERNAL];
            let own = [code::POINTER_OVERFLOW, code::POINTER_OUT_OF_BOUNDS];
            let expected = of_all.contains(&result) || rank.index() == 1 && own.contains(&result);
            holds(expected, || format!("{wrong:?}: rank {} got {result}", rank.index()))?;
            // No rank goes on with half of a group.
            equal("the next gather", ask(runtime, [16, 4, 12])?, code::INTERNAL)
        })?;
    }
    Ok(())
}

/// A guest that traps stops those that wait for it, and no other guest.
pub fn trap<C: Connect>(engine: &dyn Engine) -> Outcome {
    let mut alone = guest::start(engine, WAT)?;
    group::<C>(engine, &Limits::default(), |rank, runtime| {
        if rank.index() == 2 {
            return trapped(runtime.call("trap", &[]), "trap", TrapKind::MemoryOutOfBounds);
        }
        equal("result", ask(runtime, [16, 4, 12])?, code::INTERNAL)?;
        equal("who has failed", rank.stopped_by(), Some(2))
    })?;
    equal("a guest that is alone", ask(&mut *alone, [16, 12, 12])?, 0)?;
    group::<C>(engine, &Limits::default(), |_, runtime| {
        equal("another group", ask(runtime, [16, 4, 12])?, 0)
    })
}

/// A guest that waits for others is stopped when its time is over.
pub fn time<C: Connect>(engine: &dyn Engine) -> Outcome {
    let limit = Duration::from_millis(100);
    let limits = Limits::default().call_time(limit);
    for export in ["gather", "insist"] {
        group::<C>(engine, &limits, |rank, runtime| {
            if rank.index() == 0 {
                // Comes later than anybody waits.
                while rank.stopped_by().is_none() {
                    thread::sleep(Duration::from_millis(5));
                }
                return equal("too late", ask(runtime, [16, 4, 12])?, code::INTERNAL);
            }
            let result = runtime.call(export, &[16, 4, 12].map(Value::I32));
            // Who waited for less time may hear of it before its own is over.
            let told = export == "gather" && rank.stopped_by() != Some(rank.index());
            if let (Ok(result), true) = (&result, told) {
                return equal("result", &**result, &[Value::I32(code::INTERNAL)]);
            }
            trapped(result, export, TrapKind::DeadlineExceeded(limit))
        })?;
    }
    Ok(())
}

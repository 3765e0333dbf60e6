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
pub const fn cases<C: Connect>() -> [Case; 7] {
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
        Case {
            name: "ranks/broadcast",
            promise: "guests gather what rank 0 alone has decided",
            needs: THREADS,
            run: broadcast::<C>,
        },
        Case {
            name: "ranks/gone",
            promise: "a rank that is gone, or gives up with a reason, stops those that wait for it",
            needs: THREADS,
            run: gone::<C>,
        },
        Case {
            name: "ranks/other_program",
            promise: "a rank that does something else than the others stops all, and all learn why",
            needs: THREADS,
            run: other_program::<C>,
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

/// Guests gather what rank 0 alone has decided.
pub fn broadcast<C: Connect>(engine: &dyn Engine) -> Outcome {
    group::<C>(engine, &Limits::default(), |rank, runtime| {
        for total in [12_u16, 9, 300, 12] {
            // More than one exchange takes, and other bytes on other ranks.
            let mut said = vec![low(rank.index()); usize::from(total)];
            if rank.index() == 0 {
                said[..2].copy_from_slice(&total.to_le_bytes());
            }
            rank.broadcast(&mut said, 300)?;
            equal("the length of what rank 0 has said", said.len(), usize::from(total))?;
            equal("the end of it", said.last(), Some(&0))?;
            let total = i32::from(u16::from_le_bytes([said[0], said[1]]));
            let chunk = usize::from(u16::from_le_bytes([said[0], said[1]])).div_ceil(RANKS);
            let own = 64 + rank.index() * chunk;
            runtime.memory_mut()[64..64 + said.len()].fill(0);
            runtime.memory_mut()[own..own + chunk].fill(low(rank.index() + 1));
            equal("result", ask(runtime, [64, i32::try_from(chunk)?, total])?, 0)?;
            let gathered = &runtime.memory()[64..64 + said.len()];
            let expected: Vec<_> = (0..said.len()).map(|at| low(at / chunk + 1)).collect();
            equal("what was gathered", gathered, &*expected)?;
        }
        let all = rank.exchange(&vec![low(rank.index()); rank.index() * 200], 400)?;
        let expected: Vec<_> = (0..RANKS).map(|rank| vec![low(rank); rank * 200]).collect();
        equal("what each has brought", all, expected)
    })
}

/// A rank that is gone, or gives up with a reason, stops those that wait for it.
pub fn gone<C: Connect>(engine: &dyn Engine) -> Outcome {
    group::<C>(engine, &Limits::default(), |rank, runtime| {
        if rank.index() == 1 {
            rank.stop("its disk is full");
            return Ok(());
        }
        equal("result", ask(runtime, [16, 4, 12])?, code::INTERNAL)?;
        equal("who has failed", rank.stopped_by(), Some(1))?;
        let error = rank.finish().err().map(|error| error.to_string()).unwrap_or_default();
        holds(error.contains("its disk is full"), || format!("the reason is lost: {error}"))
    })?;
    let module = guest::compile(engine, WAT)?;
    let mut ranks = C::group(RANKS)?;
    // Never in a guest, and dropped while the others wait.
    let last = ranks.pop();
    thread::scope(|scope| {
        let wait = |rank: Rank| {
            let module = &*module;
            scope.spawn(move || -> Outcome {
                let mut runtime = module.instantiate(&Limits::default())?;
                runtime.join(rank.clone())?;
                equal("result", ask(&mut *runtime, [16, 4, 12])?, code::INTERNAL)?;
                equal("who is gone", rank.stopped_by(), Some(RANKS - 1))
            })
        };
        let threads: Vec<_> = ranks.into_iter().map(wait).collect();
        thread::sleep(Duration::from_millis(20));
        drop(last);
        let outcomes: Vec<_> = threads.into_iter().map(thread::ScopedJoinHandle::join).collect();
        outcomes.into_iter().try_for_each(|it| it.map_err(|_| Failure::new("panicked"))?)
    })
}

/// A rank that does something else than the others stops all, and all learn why.
pub fn other_program<C: Connect>(engine: &dyn Engine) -> Outcome {
    group::<C>(engine, &Limits::default(), |rank, runtime| {
        equal("a first gather", ask(runtime, [16, 4, 12])?, 0)?;
        if rank.index() == 2 {
            let refused = rank.broadcast(&mut vec![1; 20], 20).is_err();
            return holds(refused, || "it broadcasts while others gather".into());
        }
        let result = ask(runtime, [16, 4, 12])?;
        // Who has noticed says that it is about ranges.
        let refused = [code::INTERNAL, code::INVALID_RANGE].contains(&result);
        holds(refused, || format!("rank {} got {result}", rank.index()))?;
        holds(rank.stopped_by().is_some(), || "no rank has failed".into())?;
        holds(rank.finish().is_err(), || "it goes on".into())
    })
}

fn low(number: usize) -> u8 {
    number.to_le_bytes()[0]
}

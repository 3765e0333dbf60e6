//! Defects in limits of size and time.

use polychord_runtime_api::abi::PAGE;
use polychord_runtime_api::{
    Capabilities, Error, Limits, Module, Result, Runtime, TrapKind, Value,
};

use super::Entry;
use crate::double::{Defect, Guest};

pub(super) const DEFECTS: &[Entry] = &[
    Entry {
        name: "limits/no_memory_limit",
        what: "knows no limit of memory",
        defect: &NoMemoryLimit,
        caught_by: &[
            "limits/initial_memory",
            "limits/private_memory",
            "limits/growth_by_the_guest",
            "limits/growth_by_the_host",
            "limits/second_memory",
            "limits/memory64",
            "limits/less_than_a_page",
        ],
    },
    Entry {
        name: "limits/each_alone",
        what: "limits each memory and each table, and not all of them",
        defect: &EachAlone,
        caught_by: &["limits/all_memories", "limits/all_tables"],
    },
    Entry {
        name: "limits/one_page_more",
        what: "lets a memory grow by one page more than the limit",
        defect: &OnePageMore,
        caught_by: &["limits/growth_by_the_guest", "limits/growth_by_the_host"],
    },
    Entry {
        name: "limits/grows_without_end",
        what: "grows whatever a module says about its own limit",
        defect: &GrowsWithoutEnd,
        caught_by: &["limits/the_modules_own", "limits/tables"],
    },
    Entry {
        name: "limits/stops_early",
        what: "stops guests when half of their time is over",
        defect: &StopsEarly,
        caught_by: &["limits/time", "limits/time_in_the_start_function"],
    },
    Entry {
        name: "limits/stops_at_once",
        what: "stops every guest that has a limit",
        defect: &StopsAtOnce,
        caught_by: &[
            "limits/no_time_limit",
            "limits/time_spares_fast_calls",
            "limits/time_spares_other_guests",
        ],
    },
    Entry {
        name: "limits/broken_by_a_stop",
        what: "computes wrongly in guests that were stopped once",
        defect: &BrokenByAStop,
        caught_by: &["limits/time", "limits/stopped_anywhere"],
    },
    Entry {
        name: "limits/copies_forward",
        what: "divides a copy under a time limit, and begins at the wrong end",
        defect: &CopiesForward,
        caught_by: &["limits/bulk_under_a_limit", "limits/bulk_in_wide_memories"],
    },
    Entry {
        name: "limits/fills_what_fits",
        what: "fills a memory to its end before it traps",
        defect: &FillsWhatFits,
        caught_by: &[
            "limits/bulk_under_a_limit",
            "limits/bulk_in_wide_memories",
            "limits/bulk_at_four_gibibytes",
        ],
    },
    Entry {
        name: "limits/finishes_late",
        what: "lets a call that took too long return",
        defect: &FinishesLate,
        caught_by: &["limits/time", "limits/time_in_straight_code"],
    },
    Entry {
        name: "limits/ignores_the_time",
        what: "claims no time limits, and does not refuse them",
        defect: &IgnoresTheTime,
        caught_by: &["limits/time"],
    },
];

#[derive(Debug)]
struct NoMemoryLimit;
impl Defect for NoMemoryLimit {
    fn instantiate(&self, module: &dyn Module, limits: &Limits) -> Result<Box<dyn Runtime>> {
        module.instantiate(&limits.clone().memory_bytes(u64::MAX))
    }
}

#[derive(Debug)]
struct EachAlone;
impl Defect for EachAlone {
    fn instantiate(&self, module: &dyn Module, limits: &Limits) -> Result<Box<dyn Runtime>> {
        let limits = limits.clone().total_bytes(u64::MAX).table_elements(u64::MAX);
        module.instantiate(&limits.memories(u32::MAX).tables(u32::MAX))
    }
}

#[derive(Debug)]
struct OnePageMore;
impl Defect for OnePageMore {
    fn instantiate(&self, module: &dyn Module, limits: &Limits) -> Result<Box<dyn Runtime>> {
        let memory_bytes = limits.memory_bytes.saturating_add(PAGE);
        module.instantiate(&limits.clone().memory_bytes(memory_bytes))
    }
}

#[derive(Debug)]
struct GrowsWithoutEnd;
impl Defect for GrowsWithoutEnd {
    fn call(&self, guest: &mut Guest, export: &str, args: &[Value]) -> Result<Vec<Value>> {
        let results = guest.inner.call(export, args)?;
        let refused = |value: &Value| *value == Value::I32(-1);
        Ok(if results.iter().any(refused) { vec![Value::I32(2)] } else { results })
    }
}

#[derive(Debug)]
struct StopsEarly;
impl Defect for StopsEarly {
    fn instantiate(&self, module: &dyn Module, limits: &Limits) -> Result<Box<dyn Runtime>> {
        let call_time = limits.call_time.map(|limit| limit / 2);
        module.instantiate(&limits.clone().call_time(call_time))
    }
}

#[derive(Debug)]
struct StopsAtOnce;
impl Defect for StopsAtOnce {
    fn call(&self, guest: &mut Guest, export: &str, args: &[Value]) -> Result<Vec<Value>> {
        let host = guest.inner.host();
        match host.limits().call_time {
            Some(limit) => Err(Error::Trap {
                engine: host.capabilities().engine,
                operation: export.into(),
                kind: TrapKind::DeadlineExceeded(limit),
            }),
            None => guest.inner.call(export, args),
        }
    }
}

/// The operands of a bulk instruction in the first memory, under a time limit.
fn operands(guest: &Guest, export: &str, exports: &[&str], args: &[Value]) -> Option<[usize; 3]> {
    guest.inner.host().limits().call_time.filter(|_| exports.contains(&export))?;
    let number = |value: &Value| match value {
        Value::I32(value) => value.cast_unsigned() as usize,
        Value::I64(value) => usize::try_from(value.cast_unsigned()).unwrap(),
        _ => unreachable!(),
    };
    let numbers: Vec<_> = args.iter().map(number).collect();
    numbers.try_into().ok()
}

#[derive(Debug)]
struct CopiesForward;
impl Defect for CopiesForward {
    fn call(&self, guest: &mut Guest, export: &str, args: &[Value]) -> Result<Vec<Value>> {
        const PIECE: usize = 1 << 20;
        if let Some([to, from, len]) = operands(guest, export, &["copy00"], args)
            && to.max(from).checked_add(len).is_some_and(|end| end <= guest.inner.memory().len())
        {
            let memory = guest.inner.memory_mut();
            for at in (0..len).step_by(PIECE) {
                let piece = PIECE.min(len - at);
                memory.copy_within(from + at..from + at + piece, to + at);
            }
            return Ok(Vec::new());
        }
        guest.inner.call(export, args)
    }
}

#[derive(Debug)]
struct FillsWhatFits;
impl Defect for FillsWhatFits {
    fn call(&self, guest: &mut Guest, export: &str, args: &[Value]) -> Result<Vec<Value>> {
        let result = guest.inner.call(export, args);
        if let (Err(_), Some([to, byte, _])) =
            (&result, operands(guest, export, &["fill", "fill0"], args))
        {
            let memory = guest.inner.memory_mut();
            let fits = memory.get_mut(to..).unwrap_or_default();
            let some = fits.len().min(4 << 20);
            fits[..some].fill(byte.to_le_bytes()[0]);
        }
        result
    }
}

#[derive(Debug)]
struct FinishesLate;
impl Defect for FinishesLate {
    fn call(&self, guest: &mut Guest, export: &str, args: &[Value]) -> Result<Vec<Value>> {
        match guest.inner.call(export, args) {
            Err(Error::Trap { kind: TrapKind::DeadlineExceeded(_), .. }) => Ok(Vec::new()),
            other => other,
        }
    }
}

#[derive(Debug)]
struct BrokenByAStop;
impl Defect for BrokenByAStop {
    fn call(&self, guest: &mut Guest, export: &str, args: &[Value]) -> Result<Vec<Value>> {
        let result = guest.inner.call(export, args);
        if matches!(result, Err(Error::Trap { kind: TrapKind::DeadlineExceeded(_), .. })) {
            guest.old_memory = vec![1];
        }
        let was_stopped = !guest.old_memory.is_empty();
        result.map(|values| if was_stopped { vec![Value::I32(0)] } else { values })
    }
}

#[derive(Debug)]
struct IgnoresTheTime;
impl Defect for IgnoresTheTime {
    fn claim(&self, has: &mut Capabilities) {
        has.time_limit = false;
    }

    fn instantiate(&self, module: &dyn Module, limits: &Limits) -> Result<Box<dyn Runtime>> {
        match module.instantiate(&limits.clone().call_time(None)) {
            Err(Error::Unmet { .. }) => module.instantiate(&Limits::default()),
            other => other,
        }
    }
}

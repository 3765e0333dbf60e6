//! Defects in traps.

use polychord_runtime_api::spi::GUEST_STACK;
use polychord_runtime_api::{Error, Limits, Module, Result, Runtime, TrapKind, Value};

use super::Entry;
use crate::double::{Defect, Guest};

pub(super) const DEFECTS: &[Entry] = &[
    Entry {
        name: "traps/lost",
        what: "loses traps",
        defect: &Lost,
        caught_by: &[
            "traps/kinds",
            "traps/after_a_trap",
            "traps/again_and_again",
            "traps/memory64",
            "threads/moved",
        ],
    },
    Entry {
        name: "traps/confused",
        what: "takes one kind of trap for another",
        defect: &Confused,
        caught_by: &["traps/kinds", "traps/memory64", "memory/last_bytes"],
    },
    Entry {
        name: "traps/nameless",
        what: "does not say in which function a guest trapped",
        defect: &Nameless,
        caught_by: &["traps/kinds"],
    },
    Entry {
        name: "traps/start_function",
        what: "reports a trap in the start function as an instance that cannot be made",
        defect: &StartFunction,
        caught_by: &["traps/start_function", "traps/segments"],
    },
    Entry {
        name: "traps/stack_overflow",
        what: "reports a full stack as unreachable code",
        defect: &StackOverflow,
        caught_by: &["traps/stack_overflow", "traps/stack_overflow_through_the_host"],
    },
    Entry {
        name: "traps/small_stacks",
        what: "does not contain recursion in a thread whose stack is smaller than a guest's",
        defect: &SmallStacks,
        caught_by: &["traps/small_stacks"],
    },
];

#[derive(Debug)]
struct Lost;
impl Defect for Lost {
    fn call(&self, guest: &mut Guest, export: &str, args: &[Value]) -> Result<Vec<Value>> {
        let results = guest.zeros(export);
        match guest.inner.call(export, args) {
            Err(Error::Trap { .. }) => Ok(results),
            other => other,
        }
    }
}

/// Changes what is said about a trap.
fn retell<T>(
    result: Result<T>,
    change: impl Fn(&'static str, String, TrapKind) -> Error,
) -> Result<T> {
    result.map_err(|error| match error {
        Error::Trap { engine, operation, kind } => change(engine, operation, kind),
        other => other,
    })
}

#[derive(Debug)]
struct Confused;
impl Defect for Confused {
    fn call(&self, guest: &mut Guest, export: &str, args: &[Value]) -> Result<Vec<Value>> {
        retell(guest.inner.call(export, args), |engine, operation, kind| {
            let kind = match kind {
                TrapKind::MemoryOutOfBounds => TrapKind::TableOutOfBounds,
                other => other,
            };
            Error::Trap { engine, operation, kind }
        })
    }
}

#[derive(Debug)]
struct Nameless;
impl Defect for Nameless {
    fn call(&self, guest: &mut Guest, export: &str, args: &[Value]) -> Result<Vec<Value>> {
        retell(guest.inner.call(export, args), |engine, _, kind| Error::Trap {
            engine,
            operation: "a function".into(),
            kind,
        })
    }
}

#[derive(Debug)]
struct StartFunction;
impl Defect for StartFunction {
    fn instantiate(&self, module: &dyn Module, limits: &Limits) -> Result<Box<dyn Runtime>> {
        retell(module.instantiate(limits), |engine, _, kind| Error::Instantiate {
            engine,
            reason: kind.to_string(),
        })
    }
}

/// A sound test cannot end the process, as a real engine with this defect does.
#[derive(Debug)]
struct SmallStacks;
impl Defect for SmallStacks {
    fn call(&self, guest: &mut Guest, export: &str, args: &[Value]) -> Result<Vec<Value>> {
        if stacker::remaining_stack().is_some_and(|left| left < GUEST_STACK) {
            return StackOverflow.call(guest, export, args);
        }
        guest.inner.call(export, args)
    }
}

#[derive(Debug)]
struct StackOverflow;
impl Defect for StackOverflow {
    fn call(&self, guest: &mut Guest, export: &str, args: &[Value]) -> Result<Vec<Value>> {
        retell(guest.inner.call(export, args), |engine, operation, kind| {
            let kind = match kind {
                TrapKind::StackOverflow => TrapKind::Unreachable,
                other => other,
            };
            Error::Trap { engine, operation, kind }
        })
    }
}

//! Defects in what guests import, in globals, and in interrupting.

use polychord_runtime_api::{
    Error, Instantiation, Interrupter, Limits, Module, Result, Runtime, TrapKind, Value,
};

use super::{Entry, map_results};
use crate::double::{Defect, Guest};

pub(super) const DEFECTS: &[Entry] = &[
    Entry {
        name: "imports/changes_numbers",
        what: "changes numbers on their way between guest and host",
        defect: &ChangesNumbers,
        caught_by: &[
            "imports/round_trip",
            "imports/untyped",
            "imports/many",
            "imports/into_the_guest",
            "imports/reserved",
            "imports/twice_imported",
            "imports/grown_by_a_function",
            "imports/memory_wide",
            "globals/in_a_function",
        ],
    },
    Entry {
        name: "imports/everything_is_a_trap",
        what: "reports errors of the host and exits as traps",
        defect: &EverythingIsATrap,
        caught_by: &[
            "imports/errors",
            "imports/exits",
            "imports/error_within",
            "imports/pointers",
            "imports/grown_by_a_function",
        ],
    },
    Entry {
        name: "imports/loses_the_state",
        what: "starts guests without the state of the user",
        defect: &LosesTheState,
        caught_by: &[
            "imports/state",
            "imports/state_within",
            "imports/twelve_of_each",
            "imports/too_deep",
        ],
    },
    Entry {
        name: "imports/first_mismatch",
        what: "reports the first import that does not match, and no others",
        defect: &FirstMismatch,
        caught_by: &["imports/every_mismatch", "imports/described"],
    },
    Entry {
        name: "imports/forgets",
        what: "gives guests nothing but the functions of env",
        defect: &Forgets,
        caught_by: &["imports/given_twice", "imports/reserved", "globals/imported"],
    },
    Entry {
        name: "imports/wants_all_used",
        what: "refuses what a guest does not import",
        defect: &WantsAllUsed,
        caught_by: &["imports/unused"],
    },
    Entry {
        name: "imports/one_page",
        what: "makes every memory of one page",
        defect: &OnePage,
        caught_by: &["imports/memory", "imports/memory_sizes"],
    },
    Entry {
        name: "imports/grows_without_end",
        what: "lets a memory of the host grow beyond all limits",
        defect: &GrowsWithoutEnd,
        caught_by: &["imports/memory_limits"],
    },
    Entry {
        name: "globals/always_zero",
        what: "reads every global as zero, and sets none",
        defect: &AlwaysZero,
        caught_by: &["globals/exported", "globals/imported", "globals/refused"],
    },
    Entry {
        name: "interrupt/just_a_trap",
        what: "does not tell an interruption from a trap",
        defect: &JustATrap,
        caught_by: &["interrupt/loop", "interrupt/within", "interrupt/time_limit"],
    },
    Entry {
        name: "interrupt/never",
        what: "interrupts no guest",
        defect: &Never,
        caught_by: &["interrupt/only_what_runs"],
    },
    Entry {
        name: "interrupt/always",
        what: "makes every guest one that can be interrupted",
        defect: &Always,
        caught_by: &["interrupt/not_asked_for"],
    },
];

#[derive(Debug)]
struct ChangesNumbers;
impl Defect for ChangesNumbers {
    fn call(&self, guest: &mut Guest, export: &str, args: &[Value]) -> Result<Vec<Value>> {
        map_results(guest, export, args, |value| match value {
            Value::I32(x) => Value::I32(x ^ 1),
            Value::I64(x) => Value::I64(x ^ 1),
            Value::V128(x) => Value::V128(x ^ 1 << 127),
            other => other,
        })
    }
}

#[derive(Debug)]
pub(super) struct EverythingIsATrap;

fn as_trap<T>(done: Result<T>) -> Result<T> {
    done.map_err(|error| match error {
        Error::Host { name, .. } => {
            Error::Trap { engine: "wrong", operation: name, kind: TrapKind::Other }
        }
        Error::Exit { .. } => {
            Error::Trap { engine: "wrong", operation: String::new(), kind: TrapKind::Other }
        }
        other => other,
    })
}

impl Defect for EverythingIsATrap {
    fn call(&self, guest: &mut Guest, export: &str, args: &[Value]) -> Result<Vec<Value>> {
        as_trap(guest.inner.call(export, args))
    }
}

/// What a guest is started with, but with these limits and without a state.
fn changed<'a>(with: &Instantiation<'a>, limits: Limits) -> Instantiation<'a> {
    match with.imports {
        Some(imports) => Instantiation::new(&limits).imports(imports),
        None => Instantiation::new(&limits),
    }
}

#[derive(Debug)]
pub(super) struct LosesTheState;
impl Defect for LosesTheState {
    fn instantiate_with(
        &self,
        module: &dyn Module,
        with: Instantiation<'_>,
    ) -> Result<Box<dyn Runtime>> {
        module.instantiate_with(changed(&with, with.limits.clone()))
    }
}

#[derive(Debug)]
struct FirstMismatch;
impl FirstMismatch {
    fn only_first<T>(done: Result<T>) -> Result<T> {
        done.map_err(|error| match error {
            Error::Imports { mut unmatched } => {
                unmatched.truncate(1);
                Error::Imports { unmatched }
            }
            other => other,
        })
    }
}

impl Defect for FirstMismatch {
    fn instantiate(&self, module: &dyn Module, limits: &Limits) -> Result<Box<dyn Runtime>> {
        Self::only_first(module.instantiate(limits))
    }

    fn instantiate_with(
        &self,
        module: &dyn Module,
        with: Instantiation<'_>,
    ) -> Result<Box<dyn Runtime>> {
        Self::only_first(module.instantiate_with(with))
    }
}

#[derive(Debug)]
struct Forgets;
impl Defect for Forgets {
    fn instantiate_with(
        &self,
        module: &dyn Module,
        with: Instantiation<'_>,
    ) -> Result<Box<dyn Runtime>> {
        module.instantiate(&with.limits)
    }
}

#[derive(Debug)]
struct WantsAllUsed;
impl Defect for WantsAllUsed {
    fn instantiate_with(
        &self,
        module: &dyn Module,
        with: Instantiation<'_>,
    ) -> Result<Box<dyn Runtime>> {
        let given = with.imports.map_or(0, |imports| imports.iter().count());
        if given > module.imports().len() {
            return Err(Error::Imports { unmatched: Vec::new() });
        }
        module.instantiate_with(with)
    }
}

#[derive(Debug)]
struct OnePage;
impl Defect for OnePage {
    fn memory<'a>(&self, guest: &'a Guest) -> &'a [u8] {
        let memory = guest.inner.memory();
        memory.get(..65_536).unwrap_or(memory)
    }
}

#[derive(Debug)]
struct GrowsWithoutEnd;
impl Defect for GrowsWithoutEnd {
    fn call(&self, guest: &mut Guest, export: &str, args: &[Value]) -> Result<Vec<Value>> {
        let results = guest.inner.call(export, args)?;
        let refused = export == "grow" && results == [Value::I32(-1)];
        Ok(if refused { vec![Value::I32(3)] } else { results })
    }
}

#[derive(Debug)]
struct AlwaysZero;
impl Defect for AlwaysZero {
    fn global(&self, guest: &mut Guest, name: &str) -> Result<Value> {
        Ok(guest.inner.global(name).map_or(Value::I32(0), |value| value.ty().zero()))
    }

    fn set_global(&self, _: &mut Guest, _: &str, _: Value) -> Result<()> {
        Ok(())
    }
}

#[derive(Debug)]
struct JustATrap;
impl Defect for JustATrap {
    fn call(&self, guest: &mut Guest, export: &str, args: &[Value]) -> Result<Vec<Value>> {
        guest.inner.call(export, args).map_err(|error| match error {
            Error::Trap { engine, operation, kind: TrapKind::Interrupted } => {
                Error::Trap { engine, operation, kind: TrapKind::Unreachable }
            }
            other => other,
        })
    }
}

#[derive(Debug)]
struct Never;
impl Defect for Never {
    fn interrupter(&self, _: &Guest) -> Result<Interrupter> {
        Err(Error::NotInterruptible)
    }
}

#[derive(Debug)]
struct Always;
impl Defect for Always {
    fn instantiate(&self, module: &dyn Module, limits: &Limits) -> Result<Box<dyn Runtime>> {
        module.instantiate(&limits.clone().interruptible(true))
    }
}

//! Defects in what the functions of WASI tell a guest, and what becomes of its calls.

use polychord_runtime_api::{Error, Result, TrapKind, Value};

use super::imports::{EverythingIsATrap, LosesTheState};
use super::{Entry, map_results};
use crate::double::{Defect, Guest};

pub(super) const DEFECTS: &[Entry] = &[
    Entry {
        name: "wasi/always_succeeds",
        what: "tells guests that every function of the host has succeeded",
        defect: &AlwaysSucceeds,
        caught_by: &[
            "wasi/read_only",
            "wasi/escapes",
            "wasi/refused",
            "wasi/limits",
            "wasi/streams",
            "wasi/pointers",
            "wasi/pipes",
        ],
    },
    Entry {
        name: "wasi/loses_what_is_written",
        what: "loses what functions of the host write into a guest's memory",
        defect: &LosesWhatIsWritten,
        caught_by: &["wasi/arguments", "wasi/time", "wasi/files"],
    },
    Entry {
        name: "wasi/exits_are_traps",
        what: "takes the end of a program for a trap",
        defect: &EverythingIsATrap,
        caught_by: &["wasi/exit", "wasi/pointers"],
    },
    Entry {
        name: "wasi/without_contexts",
        what: "starts guests without their contexts",
        defect: &LosesTheState,
        caught_by: &["wasi/guests", "wasi/files"],
    },
    Entry {
        name: "wasi/keeps_the_reason",
        what: "does not say that a guest that waited was stopped by its time limit",
        defect: &KeepsTheReason,
        caught_by: &["wasi/waiting", "wasi/pipes"],
    },
];

#[derive(Debug)]
struct AlwaysSucceeds;
impl Defect for AlwaysSucceeds {
    fn call(&self, guest: &mut Guest, export: &str, args: &[Value]) -> Result<Vec<Value>> {
        map_results(guest, export, args, |_| Value::I32(0))
    }
}

#[derive(Debug)]
struct LosesWhatIsWritten;
impl Defect for LosesWhatIsWritten {
    fn call(&self, guest: &mut Guest, export: &str, args: &[Value]) -> Result<Vec<Value>> {
        let before = guest.inner.memory().to_vec();
        let done = guest.inner.call(export, args);
        guest.inner.memory_mut()[..before.len()].copy_from_slice(&before);
        done
    }
}

/// The guest is stopped, since a test that hangs proves nothing.
#[derive(Debug)]
struct KeepsTheReason;
impl Defect for KeepsTheReason {
    fn call(&self, guest: &mut Guest, export: &str, args: &[Value]) -> Result<Vec<Value>> {
        guest.inner.call(export, args).map_err(|error| match error {
            Error::Trap { engine, operation, kind: TrapKind::DeadlineExceeded(_) } => {
                Error::Trap { engine, operation, kind: TrapKind::Unreachable }
            }
            other => other,
        })
    }
}

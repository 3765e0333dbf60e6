//! Defects in ranks.

use polychord_runtime_api::{Error, Result, TrapKind, Value};

use super::Entry;
use crate::double::{Defect, Guest};

pub(super) const DEFECTS: &[Entry] = &[
    Entry {
        name: "ranks/moves_nothing",
        what: "says that it has gathered, and has not",
        defect: &MovesNothing,
        caught_by: &[
            "ranks/gather",
            "ranks/sizes",
            "ranks/broadcast",
            "ranks/gone",
            "ranks/other_program",
        ],
    },
    Entry {
        name: "ranks/other_traps",
        what: "takes every trap for unreachable code",
        defect: &OtherTraps,
        caught_by: &["ranks/trap", "ranks/time"],
    },
];

#[derive(Debug)]
struct MovesNothing;
impl Defect for MovesNothing {
    fn call(&self, guest: &mut Guest, export: &str, args: &[Value]) -> Result<Vec<Value>> {
        if export == "gather" {
            return Ok(vec![Value::I32(0)]);
        }
        guest.inner.call(export, args)
    }
}

#[derive(Debug)]
struct OtherTraps;
impl Defect for OtherTraps {
    fn call(&self, guest: &mut Guest, export: &str, args: &[Value]) -> Result<Vec<Value>> {
        guest.inner.call(export, args).map_err(|error| match error {
            Error::Trap { engine, operation, .. } => {
                Error::Trap { engine, operation, kind: TrapKind::Unreachable }
            }
            other => other,
        })
    }
}

//! Defects in calls: arguments, results, exports.

use std::sync::Arc;

use polychord_runtime_api::{Engine, Error, Module, Result, Value};

use super::compile::patched;
use super::{Entry, map_results};
use crate::double::{Defect, Guest};

pub(super) const DEFECTS: &[Entry] = &[
    Entry {
        name: "call/reverses_results",
        what: "returns several results in the wrong order",
        defect: &ReversesResults,
        caught_by: &["call/multi_value", "call/many_parameters"],
    },
    Entry {
        name: "call/canonicalises_nan",
        what: "changes the bits of a NaN that passes through",
        defect: &CanonicalisesNan,
        caught_by: &["call/round_trip"],
    },
    Entry {
        name: "call/swaps_lanes",
        what: "swaps the halves of a vector",
        defect: &SwapsLanes,
        caught_by: &["call/round_trip", "determinism/simd_integers"],
    },
    Entry {
        name: "call/drops_arguments",
        what: "drops arguments that a function does not have",
        defect: &DropsArguments,
        caught_by: &["call/wrong_arguments"],
    },
    Entry {
        name: "call/ignores_missing_exports",
        what: "does nothing if the function is not there",
        defect: &IgnoresMissingExports,
        caught_by: &["call/missing_export"],
    },
    Entry {
        name: "call/calls_twice",
        what: "runs a function twice",
        defect: &CallsTwice,
        caught_by: &["call/state_persists", "compile/instances_are_independent"],
    },
    Entry {
        name: "call/loses_writes",
        what: "lets the host write to a copy of the memory",
        defect: &LosesWrites,
        caught_by: &["call/memory_is_shared_with_the_host", "abi/wasm32/transfers_count"],
    },
    Entry {
        name: "call/old_size",
        what: "goes on with the size that a memory began with",
        defect: &OldSize,
        caught_by: &["call/memory_follows_growth", "limits/growth_by_the_guest"],
    },
    Entry {
        name: "call/first_memory",
        what: "shows the host the first memory in place of the one that is exported",
        defect: &FirstMemory,
        caught_by: &["call/multi_memory", "memory/independent", "memory/copies_between"],
    },
];

#[derive(Debug)]
struct ReversesResults;
impl Defect for ReversesResults {
    fn call(&self, guest: &mut Guest, export: &str, args: &[Value]) -> Result<Vec<Value>> {
        let mut results = guest.inner.call(export, args)?;
        results.reverse();
        Ok(results)
    }
}

#[derive(Debug)]
struct CanonicalisesNan;
impl Defect for CanonicalisesNan {
    fn call(&self, guest: &mut Guest, export: &str, args: &[Value]) -> Result<Vec<Value>> {
        map_results(guest, export, args, |value| match value {
            Value::F32(x) if x.is_nan() => Value::F32(f32::NAN),
            other => other,
        })
    }
}

#[derive(Debug)]
struct SwapsLanes;
impl Defect for SwapsLanes {
    fn call(&self, guest: &mut Guest, export: &str, args: &[Value]) -> Result<Vec<Value>> {
        map_results(guest, export, args, |value| match value {
            Value::V128(lanes) => Value::V128(lanes.rotate_left(64)),
            other => other,
        })
    }
}

#[derive(Debug)]
struct DropsArguments;
impl Defect for DropsArguments {
    fn call(&self, guest: &mut Guest, export: &str, args: &[Value]) -> Result<Vec<Value>> {
        let module = guest.inner.host().module().clone();
        let params = module.functions().get(export).map_or(args.len(), |ty| ty.params.len());
        guest.inner.call(export, &args[..args.len().min(params)])
    }
}

#[derive(Debug)]
struct IgnoresMissingExports;
impl Defect for IgnoresMissingExports {
    fn call(&self, guest: &mut Guest, export: &str, args: &[Value]) -> Result<Vec<Value>> {
        match guest.inner.call(export, args) {
            Err(Error::MissingExport { .. }) => Ok(Vec::new()),
            other => other,
        }
    }
}

#[derive(Debug)]
struct CallsTwice;
impl Defect for CallsTwice {
    fn call(&self, guest: &mut Guest, export: &str, args: &[Value]) -> Result<Vec<Value>> {
        guest.inner.call(export, args)?;
        guest.inner.call(export, args)
    }
}

#[derive(Debug)]
struct LosesWrites;
impl Defect for LosesWrites {
    fn memory_mut<'a>(&self, guest: &'a mut Guest) -> &'a mut [u8] {
        guest.old_memory = guest.inner.memory().to_vec();
        &mut guest.old_memory
    }
}

#[derive(Debug)]
struct OldSize;
impl Defect for OldSize {
    fn memory<'a>(&self, guest: &'a Guest) -> &'a [u8] {
        &guest.inner.memory()[..guest.first_size]
    }
}

#[derive(Debug)]
struct FirstMemory;
impl Defect for FirstMemory {
    fn compile(&self, engine: &dyn Engine, wasm: &[u8]) -> Result<Arc<dyn Module>> {
        // The export: its name, that it is a memory, and which one.
        engine.compile(&patched(wasm, b"\x06memory\x02\x01", b"\x06memory\x02\x00"))
    }
}

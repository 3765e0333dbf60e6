//! Wrong results of correct code: the groups `determinism` and `transformer`.

use polychord_runtime_api::abi::transformer::export;
use polychord_runtime_api::{Result, Value};

use super::{Entry, map_results};
use crate::double::{Defect, Guest};

pub(super) const DEFECTS: &[Entry] = &[
    Entry {
        name: "determinism/last_bit",
        what: "gets the last bit of every result wrong",
        defect: &LastBit,
        caught_by: &[
            "determinism/integers",
            "determinism/floats",
            "determinism/no_fused_multiply_add",
            "determinism/conversions",
            "determinism/simd_floats",
            "determinism/simd_integers",
            "determinism/relaxed_dot",
        ],
    },
    Entry {
        name: "determinism/flushes_subnormals",
        what: "flushes subnormal numbers to zero",
        defect: &FlushesSubnormals,
        caught_by: &["determinism/subnormals"],
    },
    Entry {
        name: "determinism/nan_is_zero",
        what: "turns NaN into zero",
        defect: &NanIsZero,
        caught_by: &["determinism/not_a_number", "call/round_trip"],
    },
    Entry {
        name: "determinism/one_zero",
        what: "drops the sign of zero",
        defect: &OneZero,
        caught_by: &["determinism/not_a_number", "call/round_trip"],
    },
    Entry {
        name: "transformer/first_row",
        what: "computes the logits of the first row of a batch",
        defect: &FirstRow,
        caught_by: &["transformer/batches"],
    },
    Entry {
        name: "transformer/position",
        what: "takes every token for the first",
        defect: &Position,
        caught_by: &["transformer/logits", "transformer/mapped"],
    },
];

#[derive(Debug)]
struct LastBit;
impl Defect for LastBit {
    fn call(&self, guest: &mut Guest, export: &str, args: &[Value]) -> Result<Vec<Value>> {
        map_results(guest, export, args, |value| match value {
            Value::I32(x) => Value::I32(x ^ 1),
            Value::I64(x) => Value::I64(x ^ 1),
            Value::F32(x) => Value::F32(f32::from_bits(x.to_bits() ^ 1)),
            Value::F64(x) => Value::F64(f64::from_bits(x.to_bits() ^ 1)),
            other => other,
        })
    }
}

#[derive(Debug)]
struct FlushesSubnormals;
impl Defect for FlushesSubnormals {
    fn call(&self, guest: &mut Guest, export: &str, args: &[Value]) -> Result<Vec<Value>> {
        map_results(guest, export, args, |value| match value {
            Value::F32(x) if x.is_subnormal() => Value::F32(0.0),
            other => other,
        })
    }
}

#[derive(Debug)]
struct NanIsZero;
impl Defect for NanIsZero {
    fn call(&self, guest: &mut Guest, export: &str, args: &[Value]) -> Result<Vec<Value>> {
        map_results(guest, export, args, |value| match value {
            Value::F32(x) if x.is_nan() => Value::F32(0.0),
            other => other,
        })
    }
}

#[derive(Debug)]
struct OneZero;
impl Defect for OneZero {
    fn call(&self, guest: &mut Guest, export: &str, args: &[Value]) -> Result<Vec<Value>> {
        map_results(guest, export, args, |value| match value {
            Value::F32(x) => Value::F32(x + 0.0),
            other => other,
        })
    }
}

#[derive(Debug)]
struct FirstRow;
impl Defect for FirstRow {
    fn call(&self, guest: &mut Guest, name: &str, args: &[Value]) -> Result<Vec<Value>> {
        let args = if name == export::HEAD { &[Value::I32(0)] } else { args };
        guest.inner.call(name, args)
    }
}

#[derive(Debug)]
struct Position;
impl Defect for Position {
    fn call(&self, guest: &mut Guest, name: &str, args: &[Value]) -> Result<Vec<Value>> {
        let mut args = args.to_vec();
        if name == export::BLOCKS {
            args[2] = Value::I32(0);
        }
        guest.inner.call(name, &args)
    }
}

//! Numbers and types, as Polychord and as Wasmtime represent them.

use polychord_runtime_api::{Value, ValueType};
use wasmtime::{Val, ValRaw, ValType};

pub(crate) fn to_type(ty: ValueType) -> ValType {
    ty.zero().convert(
        |_| ValType::I32,
        |_| ValType::I64,
        |_| ValType::F32,
        |_| ValType::F64,
        |_| ValType::V128,
    )
}

/// None of a reference, of which the host knows nothing.
pub(crate) const fn of_type(ty: &ValType) -> Option<ValueType> {
    match ty {
        ValType::I32 => Some(ValueType::I32),
        ValType::I64 => Some(ValueType::I64),
        ValType::F32 => Some(ValueType::F32),
        ValType::F64 => Some(ValueType::F64),
        ValType::V128 => Some(ValueType::V128),
        ValType::Ref(_) => None,
    }
}

pub(crate) fn to_engine(value: Value) -> Val {
    value.convert(
        Val::I32,
        Val::I64,
        |value| Val::F32(value.to_bits()),
        |value| Val::F64(value.to_bits()),
        |value| Val::V128(value.into()),
    )
}

/// Only the types of [`ValueType`] occur: others cannot be called or imported.
pub(crate) fn from_engine(value: &Val) -> Value {
    match value {
        Val::I32(value) => Value::I32(*value),
        Val::I64(value) => Value::I64(*value),
        Val::F32(bits) => Value::F32(f32::from_bits(*bits)),
        Val::F64(bits) => Value::F64(f64::from_bits(*bits)),
        Val::V128(value) => Value::V128(value.as_u128()),
        _ => Value::I32(0),
    }
}

/// A value of this type, as compiled code has stored it.
pub(crate) fn from_raw(raw: ValRaw, ty: ValueType) -> Value {
    match ty {
        ValueType::I64 => Value::I64(raw.get_i64()),
        ValueType::F32 => Value::F32(f32::from_bits(raw.get_f32())),
        ValueType::F64 => Value::F64(f64::from_bits(raw.get_f64())),
        ValueType::V128 => Value::V128(raw.get_v128()),
        _ => Value::I32(raw.get_i32()),
    }
}

/// A value as compiled code finds it.
pub(crate) fn to_raw(value: Value) -> ValRaw {
    value.convert(
        ValRaw::i32,
        ValRaw::i64,
        |value| ValRaw::f32(value.to_bits()),
        |value| ValRaw::f64(value.to_bits()),
        ValRaw::v128,
    )
}

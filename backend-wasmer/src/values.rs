//! Numbers and types, as Polychord and as Wasmer represent them.

use polychord_runtime_api::{Value, ValueType};
use wasmer::Type;

pub(crate) fn to_type(ty: ValueType) -> Type {
    to_engine(ty.zero()).ty()
}

pub(crate) fn to_engine(value: Value) -> wasmer::Value {
    use wasmer::Value;

    value.convert(Value::I32, Value::I64, Value::F32, Value::F64, Value::V128)
}

/// Only the types of [`ValueType`] occur: others cannot be called or imported.
pub(crate) fn from_engine(value: &wasmer::Value) -> Value {
    match value {
        wasmer::Value::I32(value) => Value::I32(*value),
        wasmer::Value::I64(value) => Value::I64(*value),
        wasmer::Value::F32(value) => Value::F32(*value),
        wasmer::Value::F64(value) => Value::F64(*value),
        wasmer::Value::V128(value) => Value::V128(*value),
        _ => Value::I32(0),
    }
}

//! Numbers and types, as Polychord and as WasmEdge represent them.

use polychord_runtime_api::{FunctionType, Value, ValueType};
use wasmedge_sdk::{FuncType, ValType, WasmValue};
use wasmedge_sys::ffi;

pub(crate) fn to_type(ty: &FunctionType) -> FuncType {
    let convert = |ty: &ValueType| WasmValue::from(to_engine(ty.zero())).ty();
    FuncType::new(ty.params.iter().map(convert).collect(), ty.results.iter().map(convert).collect())
}

pub(crate) fn to_engine(value: Value) -> ffi::WasmEdge_Value {
    to_wasm(value).as_raw()
}

pub(crate) fn to_wasm(value: Value) -> WasmValue {
    value.convert(
        WasmValue::from_i32,
        WasmValue::from_i64,
        WasmValue::from_f32,
        WasmValue::from_f64,
        |value| WasmValue::from_v128(value.cast_signed()),
    )
}

/// Only the types of [`ValueType`] occur: others cannot be called or imported.
pub(crate) fn from_engine(value: ffi::WasmEdge_Value) -> Value {
    let value = WasmValue::from(value);
    match value.ty() {
        ValType::I32 => Value::I32(value.to_i32()),
        ValType::I64 => Value::I64(value.to_i64()),
        ValType::F32 => Value::F32(value.to_f32()),
        ValType::F64 => Value::F64(value.to_f64()),
        ValType::V128 => Value::V128(value.to_v128().cast_unsigned()),
        _ => Value::I32(0),
    }
}

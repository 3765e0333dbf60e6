//! Numbers, vectors and their types, as they cross the boundary of host and guest.

use std::fmt;

/// A WebAssembly number or vector, as it crosses the boundary between host and guest.
///
/// ```
/// use polychord_runtime_api::{Value, ValueType};
///
/// let value = Value::from(7_i32);
/// assert_eq!((value.ty(), value.as_i32(), value.as_i64()), (ValueType::I32, Some(7), None));
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub enum Value {
    /// A 32-bit integer.
    I32(i32),
    /// A 64-bit integer.
    I64(i64),
    /// A 32-bit float.
    F32(f32),
    /// A 64-bit float.
    F64(f64),
    /// A 128-bit vector, its lane 0 in the least significant bits.
    V128(u128),
}

/// The type of a [`Value`].
///
/// ```
/// use polychord_runtime_api::{Value, ValueType};
///
/// assert_eq!("f64".parse(), Ok(ValueType::F64));
/// assert_eq!(ValueType::F64.zero(), Value::F64(0.0));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ValueType {
    /// A 32-bit integer.
    I32,
    /// A 64-bit integer.
    I64,
    /// A 32-bit float.
    F32,
    /// A 64-bit float.
    F64,
    /// A 128-bit vector.
    V128,
}

/// Parameter and result types of a function.
///
/// ```
/// use polychord_runtime_api::{FunctionType, ValueType};
///
/// let ty = FunctionType { params: vec![ValueType::I32; 2], results: vec![ValueType::I64] };
/// assert_eq!(ty.to_string(), "(i32, i32) -> (i64)");
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FunctionType {
    /// Types of the parameters.
    pub params: Vec<ValueType>,
    /// Types of the results.
    pub results: Vec<ValueType>,
}

/// The type of addresses in a linear memory.
///
/// ```
/// use polychord_runtime_api::{AddressType, ValueType};
///
/// assert_eq!(AddressType::I64.value_type(), ValueType::I64);
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum AddressType {
    /// 32-bit, as in wasm32.
    #[default]
    I32,
    /// 64-bit, as in wasm64.
    I64,
}

impl Value {
    /// The type of this value.
    #[inline]
    #[must_use]
    pub const fn ty(self) -> ValueType {
        match self {
            Self::I32(_) => ValueType::I32,
            Self::I64(_) => ValueType::I64,
            Self::F32(_) => ValueType::F32,
            Self::F64(_) => ValueType::F64,
            Self::V128(_) => ValueType::V128,
        }
    }

    /// The number, if this is an `i32`.
    #[must_use]
    pub const fn as_i32(self) -> Option<i32> {
        match self {
            Self::I32(value) => Some(value),
            _ => None,
        }
    }

    /// The number, if this is an `i64`.
    #[must_use]
    pub const fn as_i64(self) -> Option<i64> {
        match self {
            Self::I64(value) => Some(value),
            _ => None,
        }
    }
}

impl ValueType {
    /// The value of this type with all bits zero.
    #[inline]
    #[must_use]
    pub const fn zero(self) -> Value {
        match self {
            Self::I32 => Value::I32(0),
            Self::I64 => Value::I64(0),
            Self::F32 => Value::F32(0.0),
            Self::F64 => Value::F64(0.0),
            Self::V128 => Value::V128(0),
        }
    }
}

polychord_plan::named!(ValueType, "type of a value", {
    I32 = "i32",
    I64 = "i64",
    F32 = "f32",
    F64 = "f64",
    V128 = "v128",
});

macro_rules! from_number {
    ($($number:ty => $variant:ident),*) => {$(
        impl From<$number> for Value {
            fn from(value: $number) -> Self {
                Self::$variant(value)
            }
        }
    )*};
}
from_number!(i32 => I32, i64 => I64, f32 => F32, f64 => F64, u128 => V128);

impl fmt::Display for FunctionType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = |types: &[ValueType]| {
            let names: Vec<_> = types.iter().map(ToString::to_string).collect();
            names.join(", ")
        };
        write!(f, "({}) -> ({})", names(&self.params), names(&self.results))
    }
}

impl AddressType {
    /// The value type of an address.
    #[must_use]
    pub const fn value_type(self) -> ValueType {
        match self {
            Self::I32 => ValueType::I32,
            Self::I64 => ValueType::I64,
        }
    }
}

//! Functions of native Rust types.

use super::error::HostError;
use crate::value::{Value, ValueType};

/// A number as Rust has it: `i32`, `u32`, `i64`, `u64`, `f32`, `f64`, or `u128` for a vector.
///
/// ```
/// use polychord_runtime_api::ValueType;
/// use polychord_runtime_api::imports::HostValue;
///
/// assert_eq!(u32::TYPE, ValueType::I32);
/// assert_eq!(u32::MAX.into_value().as_i32(), Some(-1));
/// ```
pub trait HostValue: Copy + sealed::Sealed + 'static {
    /// The type that a guest has for it.
    const TYPE: ValueType;

    /// The number in a value of this type.
    #[doc(hidden)]
    fn from_value(value: Value) -> Option<Self>;

    /// The value of this number.
    fn into_value(self) -> Value;
}

/// Parameters of a function: a tuple of 0 to 12 [`HostValue`]s.
///
/// ```
/// use polychord_runtime_api::imports::Params;
///
/// fn takes<P: Params>() {}
/// takes::<()>();
/// takes::<(i32,)>();
/// takes::<(u32, f64, u128)>();
/// ```
pub trait Params: sealed::Sealed + Sized + 'static {
    #[doc(hidden)]
    fn types() -> Vec<ValueType>;
    #[doc(hidden)]
    fn read(args: &[Value]) -> Option<Self>;
}

/// Results of a function that cannot fail: nothing, a [`HostValue`], or a tuple of 2 to 12 of them.
///
/// ```
/// use polychord_runtime_api::imports::Plain;
///
/// fn returns<R: Plain>() {}
/// returns::<()>();
/// returns::<f32>();
/// returns::<(i64, i64)>();
/// ```
pub trait Plain: sealed::Sealed + Sized + 'static {
    #[doc(hidden)]
    fn plain_types() -> Vec<ValueType>;
    #[doc(hidden)]
    fn store(self, results: &mut [Value]);
}

/// What a function returns: [`Plain`] results, or a [`Result`] of them with [`HostError`].
///
/// ```
/// use polychord_runtime_api::imports::{HostError, Outcome};
///
/// fn returns<R: Outcome>() {}
/// returns::<i32>();
/// returns::<Result<(), HostError>>();
/// ```
pub trait Outcome: sealed::Sealed + Sized + 'static {
    #[doc(hidden)]
    fn types() -> Vec<ValueType>;
    #[doc(hidden)]
    fn write(self, results: &mut [Value]) -> Result<(), HostError>;
}

mod sealed {
    pub trait Sealed {}
}

macro_rules! host_values {
    ($($native:ty: $variant:ident, $raw:ident => $read:expr, $value:ident => $write:expr;)*) => {$(
        impl sealed::Sealed for $native {}

        impl HostValue for $native {
            const TYPE: ValueType = ValueType::$variant;

            #[inline]
            fn from_value(value: Value) -> Option<Self> {
                match value {
                    Value::$variant($raw) => Some($read),
                    _ => None,
                }
            }

            #[inline]
            fn into_value(self) -> Value {
                let $value = self;
                Value::$variant($write)
            }
        }

        impl Plain for $native {
            fn plain_types() -> Vec<ValueType> {
                vec![Self::TYPE]
            }

            #[inline]
            fn store(self, results: &mut [Value]) {
                if let [result] = results {
                    *result = self.into_value();
                }
            }
        }
    )*};
}

host_values! {
    i32: I32, x => x, x => x;
    u32: I32, x => x.cast_unsigned(), x => x.cast_signed();
    i64: I64, x => x, x => x;
    u64: I64, x => x.cast_unsigned(), x => x.cast_signed();
    f32: F32, x => x, x => x;
    f64: F64, x => x, x => x;
    u128: V128, x => x, x => x;
}

macro_rules! tuples {
    ($($name:ident)*) => {
        impl<$($name: HostValue),*> sealed::Sealed for ($($name,)*) {}

        impl<$($name: HostValue),*> Params for ($($name,)*) {
            fn types() -> Vec<ValueType> {
                vec![$($name::TYPE),*]
            }

            #[inline]
            #[allow(non_snake_case, reason = "values are named like their types")]
            fn read(args: &[Value]) -> Option<Self> {
                let [$($name),*] = args else { return None };
                Some(($($name::from_value(*$name)?,)*))
            }
        }
    };
}

macro_rules! result_tuples {
    ($($name:ident)*) => {
        impl<$($name: HostValue),*> Plain for ($($name,)*) {
            fn plain_types() -> Vec<ValueType> {
                vec![$($name::TYPE),*]
            }

            #[inline]
            #[allow(non_snake_case, reason = "values are named like their types")]
            fn store(self, results: &mut [Value]) {
                let ($($name,)*) = self;
                for (result, value) in results.iter_mut().zip([$($name.into_value()),*]) {
                    *result = value;
                }
            }
        }
    };
}

macro_rules! all_tuples {
    ($macro:ident: $first:ident $($rest:ident)*) => {
        $macro! { $first $($rest)* }
        all_tuples! { $macro: $($rest)* }
    };
    ($macro:ident:) => {};
}

tuples! {}
all_tuples! { tuples: A B C D E F G H I J K L }
all_tuples! { result_tuples: A B C D E F G H I J K L }

impl Plain for () {
    fn plain_types() -> Vec<ValueType> {
        Vec::new()
    }

    fn store(self, _results: &mut [Value]) {}
}

impl<R: Plain> Outcome for R {
    fn types() -> Vec<ValueType> {
        R::plain_types()
    }

    #[inline]
    fn write(self, results: &mut [Value]) -> Result<(), HostError> {
        self.store(results);
        Ok(())
    }
}

impl<R> sealed::Sealed for Result<R, HostError> {}

impl<R: Plain> Outcome for Result<R, HostError> {
    fn types() -> Vec<ValueType> {
        R::plain_types()
    }

    #[inline]
    fn write(self, results: &mut [Value]) -> Result<(), HostError> {
        self?.store(results);
        Ok(())
    }
}

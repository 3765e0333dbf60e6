//! Calls of a guest with Rust's own types.

use crate::live;
use crate::runtime::Runtime;
use crate::value::{Value, ValueType};
use crate::{Error, Result};

/// A number as Rust has it: `i32`, `u32`, `i64`, `u64`, `f32`, `f64`, or `u128` for a vector.
///
/// ```
/// use polychord_runtime_api::{Native, ValueType};
///
/// assert_eq!(u32::TYPE, ValueType::I32);
/// assert_eq!(u32::MAX.into_value().as_i32(), Some(-1));
/// ```
pub trait Native: Copy + sealed::Sealed + 'static {
    /// The type that a guest has for it.
    const TYPE: ValueType;

    /// The number in a value of this type.
    fn from_value(value: Value) -> Option<Self>;

    /// The value of this number.
    fn into_value(self) -> Value;
}

/// Arguments of a typed call: a tuple of 0 to 12 [`Native`] numbers.
///
/// ```
/// use polychord_runtime_api::{Arguments, ValueType};
///
/// assert_eq!(<(u32, f64)>::TYPES, [ValueType::I32, ValueType::F64]);
/// ```
pub trait Arguments: sealed::Sealed {
    /// The types that a guest has for them.
    const TYPES: &'static [ValueType];
    /// An array of values.
    #[doc(hidden)]
    type Values: AsRef<[Value]>;

    #[doc(hidden)]
    fn into_values(self) -> Self::Values;
}

/// Results of a typed call: nothing, a [`Native`] number, or a tuple of up to 12.
///
/// ```
/// use polychord_runtime_api::{Returned, ValueType};
///
/// assert_eq!(<(i64, f32)>::TYPES, [ValueType::I64, ValueType::F32]);
/// assert_eq!(<() as Returned>::TYPES, []);
/// ```
pub trait Returned: sealed::Sealed + Sized {
    /// The types that a guest has for them.
    const TYPES: &'static [ValueType];
    /// An array of values.
    #[doc(hidden)]
    type Values: AsMut<[Value]>;

    /// Room for them.
    #[doc(hidden)]
    fn room() -> Self::Values;

    #[doc(hidden)]
    fn from_values(values: &Self::Values) -> Option<Self>;
}

impl dyn Runtime + '_ {
    /// Calls an exported function with arguments and results of Rust's own types. Nothing is allocated
    /// for it here.
    ///
    /// ```
    /// use polychord_runtime_api::{Result, Runtime};
    ///
    /// fn run(guest: &mut dyn Runtime) -> Result<f32> {
    ///     guest.call_typed::<_, ()>("begin", ())?;
    ///     let (low, high): (i64, i64) = guest.call_typed("range", (7_u32, 0.5_f64))?;
    ///     guest.call_typed("sum", (low, high))
    /// }
    /// ```
    ///
    /// # Errors
    ///
    /// Returns the errors of [`call`](Runtime::call), and [`Error::Signature`] if the function returns
    /// other types; it is not called then.
    pub fn call_typed<A: Arguments, R: Returned>(&mut self, export: &str, args: A) -> Result<R> {
        if let Some(ty) = self.host().module().functions().get(export)
            && ty.results != R::TYPES
        {
            return Err(live::signature(export, ty, A::TYPES, R::TYPES));
        }
        let args = args.into_values();
        let mut results = R::room();
        self.call_into(export, args.as_ref(), results.as_mut())?;
        // Engines return the types of the function, which were compared.
        R::from_values(&results).ok_or(Error::Panic { operation: "call_typed" })
    }
}

mod sealed {
    pub trait Sealed {}
}

macro_rules! natives {
    ($($native:ty: $variant:ident, $raw:ident => $read:expr, $value:ident => $write:expr;)*) => {$(
        impl sealed::Sealed for $native {}

        impl Native for $native {
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

        impl Returned for $native {
            const TYPES: &'static [ValueType] = &[Self::TYPE];
            type Values = [Value; 1];

            #[inline]
            fn room() -> [Value; 1] {
                [Self::TYPE.zero()]
            }

            #[inline]
            fn from_values(values: &[Value; 1]) -> Option<Self> {
                Self::from_value(values[0])
            }
        }
    )*};
}

natives! {
    i32: I32, x => x, x => x;
    u32: I32, x => x.cast_unsigned(), x => x.cast_signed();
    i64: I64, x => x, x => x;
    u64: I64, x => x.cast_unsigned(), x => x.cast_signed();
    f32: F32, x => x, x => x;
    f64: F64, x => x, x => x;
    u128: V128, x => x, x => x;
}

macro_rules! tuples {
    ($($count:literal: $($name:ident)*;)*) => {$(
        impl<$($name: Native),*> sealed::Sealed for ($($name,)*) {}

        #[allow(non_snake_case, reason = "values are named like their types")]
        impl<$($name: Native),*> Arguments for ($($name,)*) {
            const TYPES: &'static [ValueType] = &[$($name::TYPE),*];
            type Values = [Value; $count];

            #[inline]
            fn into_values(self) -> Self::Values {
                let ($($name,)*) = self;
                [$($name.into_value()),*]
            }
        }

        #[allow(non_snake_case, reason = "values are named like their types")]
        impl<$($name: Native),*> Returned for ($($name,)*) {
            const TYPES: &'static [ValueType] = &[$($name::TYPE),*];
            type Values = [Value; $count];

            #[inline]
            fn room() -> Self::Values {
                [$($name::TYPE.zero()),*]
            }

            #[inline]
            fn from_values(values: &Self::Values) -> Option<Self> {
                let [$($name),*] = *values;
                Some(($($name::from_value($name)?,)*))
            }
        }
    )*};
}

tuples! {
    0: ;
    1: A;
    2: A B;
    3: A B C;
    4: A B C D;
    5: A B C D E;
    6: A B C D E F;
    7: A B C D E F G;
    8: A B C D E F G H;
    9: A B C D E F G H I;
    10: A B C D E F G H I J;
    11: A B C D E F G H I J K;
    12: A B C D E F G H I J K L;
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::idle::{Idle, capabilities};

    const GUEST: &str = r#"(module
        (func (export "none"))
        (func (export "pair") (param i32 f64) (result i64 f32) (i64.const 0) (f32.const 0)))"#;

    #[test]
    fn types_are_compared_before_the_call() {
        let mut guest = Idle::of(GUEST, capabilities());
        let guest: &mut dyn Runtime = &mut guest;
        guest.call_typed::<_, ()>("none", ()).unwrap();
        let pair: (u64, f32) = guest.call_typed("pair", (7_u32, 1.0_f64)).unwrap();
        assert_eq!(pair, (0, 0.0));
        let expected = "(i32, f64) -> (i64, f32)";
        let wrong = [
            guest.call_typed::<_, (u64, f32)>("pair", (7_u32, 1.0_f32)).map(|_| ()),
            guest.call_typed::<_, (u64, f32)>("pair", (7_u32,)).map(|_| ()),
            guest.call_typed::<_, (u64, f64)>("pair", (7_u32, 1.0_f64)).map(|_| ()),
            guest.call_typed::<_, u64>("pair", (7_u32, 1.0_f64)).map(|_| ()),
            guest.call_typed::<_, ()>("pair", (7_u32, 1.0_f64)),
        ];
        for result in wrong {
            let Err(Error::Signature { expected: ty, given, .. }) = result else { panic!() };
            assert_eq!(ty, expected);
            assert_ne!(given, expected);
        }
        let missing = guest.call_typed::<_, ()>("nothing", ());
        assert!(matches!(missing, Err(Error::MissingExport { .. })));
    }

    #[test]
    fn numbers_keep_their_bits() {
        for bits in [0, 1, u32::MAX, 1 << 31, f32::NAN.to_bits() | 1] {
            assert_eq!(u32::from_value(bits.into_value()), Some(bits));
            let float = f32::from_bits(bits);
            assert_eq!(f32::from_value(float.into_value()).map(f32::to_bits), Some(bits));
            assert_eq!(u64::from_value(bits.into_value()), None);
        }
        assert_eq!(u64::from_value(u64::MAX.into_value()), Some(u64::MAX));
        assert_eq!(u128::from_value(u128::MAX.into_value()), Some(u128::MAX));
    }
}

//! Functions of native Rust types.
#![allow(unsafe_code)]

use super::error::HostError;
use super::slot::Slot;
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

    /// The number in a slot.
    ///
    /// # Safety
    ///
    /// A number of this type was stored in it.
    #[doc(hidden)]
    unsafe fn from_slot(slot: &Slot) -> Self;

    #[doc(hidden)]
    fn into_slot(self) -> Slot;
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
    /// The types that a guest has for them.
    const TYPES: &'static [ValueType];
    /// An array of values.
    #[doc(hidden)]
    type Values: AsRef<[Value]>;

    #[doc(hidden)]
    fn read(args: &[Value]) -> Option<Self>;
    /// # Safety
    ///
    /// A number of its type was stored in each of the slots that there are parameters.
    #[doc(hidden)]
    unsafe fn read_slots(slots: &[Slot]) -> Option<Self>;
    #[doc(hidden)]
    fn into_values(self) -> Self::Values;
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
    /// The types that a guest has for them.
    const PLAIN_TYPES: &'static [ValueType];
    /// An array of values.
    #[doc(hidden)]
    type Room: AsMut<[Value]> + AsRef<[Value]>;

    #[doc(hidden)]
    fn store(self, results: &mut [Value]);
    #[doc(hidden)]
    fn store_slots(self, slots: &mut [Slot]);
    #[doc(hidden)]
    fn room() -> Self::Room;
    #[doc(hidden)]
    fn from_room(room: &Self::Room) -> Option<Self>;
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
    /// The results are those of this type.
    #[doc(hidden)]
    type Plain: Plain;

    #[doc(hidden)]
    fn into_plain(self) -> Result<Self::Plain, HostError>;
}

mod sealed {
    pub trait Sealed {}
}

macro_rules! host_values {
    ($($native:ty: $variant:ident $slot:ident, $raw:ident => $read:expr, $value:ident => $write:expr;)*) => {$(
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

            #[inline]
            unsafe fn from_slot(slot: &Slot) -> Self {
                // SAFETY: the caller's promise.
                let $raw = unsafe { slot.$slot() };
                $read
            }

            #[inline]
            fn into_slot(self) -> Slot {
                let $value = self;
                Slot::from($write)
            }
        }

        impl Plain for $native {
            const PLAIN_TYPES: &'static [ValueType] = &[Self::TYPE];
            type Room = [Value; 1];

            #[inline]
            fn store(self, results: &mut [Value]) {
                if let [result] = results {
                    *result = self.into_value();
                }
            }

            #[inline]
            fn store_slots(self, slots: &mut [Slot]) {
                if let [slot, ..] = slots {
                    *slot = self.into_slot();
                }
            }

            #[inline]
            fn room() -> [Value; 1] {
                [Self::TYPE.zero()]
            }

            #[inline]
            fn from_room(room: &[Value; 1]) -> Option<Self> {
                Self::from_value(room[0])
            }
        }
    )*};
}

host_values! {
    i32: I32 i32, x => x, x => x;
    u32: I32 i32, x => x.cast_unsigned(), x => x.cast_signed();
    i64: I64 i64, x => x, x => x;
    u64: I64 i64, x => x.cast_unsigned(), x => x.cast_signed();
    f32: F32 f32, x => x, x => x;
    f64: F64 f64, x => x, x => x;
    u128: V128 v128, x => x, x => x;
}

/// An array of a value for each name.
macro_rules! values {
    (= $name:ident) => { 1 };
    ($($name:ident)*) => { [Value; 0 $(+ values!(= $name))*] };
}

macro_rules! tuples {
    ($($name:ident)*) => {
        impl<$($name: HostValue),*> sealed::Sealed for ($($name,)*) {}

        impl<$($name: HostValue),*> Params for ($($name,)*) {
            const TYPES: &'static [ValueType] = &[$($name::TYPE),*];
            type Values = values!($($name)*);

            #[inline]
            #[allow(non_snake_case, reason = "values are named like their types")]
            fn read(args: &[Value]) -> Option<Self> {
                let [$($name),*] = args else { return None };
                Some(($($name::from_value(*$name)?,)*))
            }

            #[inline]
            #[allow(non_snake_case, reason = "values are named like their types")]
            #[allow(clippy::unused_unit, reason = "what no parameters make")]
            unsafe fn read_slots(slots: &[Slot]) -> Option<Self> {
                let ([$($name),*], _) = slots.split_first_chunk()?;
                // SAFETY: the caller's promise, for each.
                Some(($(unsafe { $name::from_slot($name) },)*))
            }

            #[inline]
            #[allow(non_snake_case, reason = "values are named like their types")]
            fn into_values(self) -> Self::Values {
                let ($($name,)*) = self;
                [$($name.into_value()),*]
            }
        }
    };
}

macro_rules! result_tuples {
    ($($name:ident)*) => {
        impl<$($name: HostValue),*> Plain for ($($name,)*) {
            const PLAIN_TYPES: &'static [ValueType] = &[$($name::TYPE),*];
            type Room = values!($($name)*);

            #[inline]
            #[allow(non_snake_case, reason = "values are named like their types")]
            fn store(self, results: &mut [Value]) {
                let ($($name,)*) = self;
                for (result, value) in results.iter_mut().zip([$($name.into_value()),*]) {
                    *result = value;
                }
            }

            #[inline]
            #[allow(non_snake_case, reason = "values are named like their types")]
            fn store_slots(self, slots: &mut [Slot]) {
                let ($($name,)*) = self;
                for (slot, value) in slots.iter_mut().zip([$($name.into_slot()),*]) {
                    *slot = value;
                }
            }

            #[inline]
            fn room() -> Self::Room {
                [$($name::TYPE.zero()),*]
            }

            #[inline]
            #[allow(non_snake_case, reason = "values are named like their types")]
            fn from_room(room: &Self::Room) -> Option<Self> {
                let [$($name),*] = *room;
                Some(($($name::from_value($name)?,)*))
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
    const PLAIN_TYPES: &'static [ValueType] = &[];
    type Room = [Value; 0];

    fn store(self, _results: &mut [Value]) {}

    fn store_slots(self, _slots: &mut [Slot]) {}

    fn room() -> [Value; 0] {
        []
    }

    fn from_room(_room: &[Value; 0]) -> Option<Self> {
        Some(())
    }
}

impl<R: Plain> Outcome for R {
    type Plain = Self;

    #[inline]
    fn into_plain(self) -> Result<Self, HostError> {
        Ok(self)
    }
}

impl<R> sealed::Sealed for Result<R, HostError> {}

impl<R: Plain> Outcome for Result<R, HostError> {
    type Plain = R;

    #[inline]
    fn into_plain(self) -> Self {
        self
    }
}

//! Values as compiled code stores them: without their types, which those of the function tell.
#![allow(unsafe_code)]

use std::fmt;
use std::mem::MaybeUninit;

use crate::value::{Value, ValueType};

/// A place for an argument or a result, as compiled code stores it: 16 bytes, of which a number takes
/// the first, least significant byte first. The others are anything.
///
/// ```
/// use polychord_runtime_api::Value;
/// use polychord_runtime_api::spi::Slot;
///
/// let slot = Slot::from(Value::F64(0.5));
/// // SAFETY: that is what was stored.
/// assert_eq!(unsafe { slot.f64() }, 0.5);
/// ```
#[derive(Clone, Copy)]
#[repr(C)]
pub struct Slot([MaybeUninit<u64>; 2]);

impl Slot {
    /// One in which nothing is stored.
    #[must_use]
    pub const fn empty() -> Self {
        Self([MaybeUninit::uninit(); 2])
    }

    /// The one with these bits.
    #[inline]
    #[allow(clippy::cast_possible_truncation, reason = "each has one half")]
    const fn of(bits: u128) -> Self {
        let (low, high) = (bits as u64, (bits >> 64) as u64);
        Self([MaybeUninit::new(low.to_le()), MaybeUninit::new(high.to_le())])
    }

    /// The number in it, by the type of the function.
    ///
    /// # Safety
    ///
    /// A number of this type was stored in it.
    #[inline]
    #[must_use]
    #[allow(clippy::multiple_unsafe_ops_per_block, reason = "it is one, of five types")]
    pub unsafe fn value(&self, ty: ValueType) -> Value {
        // SAFETY: the caller's promise, in each case.
        unsafe {
            match ty {
                ValueType::I32 => Value::I32(self.i32()),
                ValueType::I64 => Value::I64(self.i64()),
                ValueType::F32 => Value::F32(self.f32()),
                ValueType::F64 => Value::F64(self.f64()),
                ValueType::V128 => Value::V128(self.v128()),
            }
        }
    }
}

/// For each type: how a slot is read, and made.
macro_rules! numbers {
    ($($name:ident $number:ty as $bits:ident, $of:expr, $to:expr;)*) => {
        impl Slot {$(
            /// The number in it.
            ///
            /// # Safety
            ///
            /// A number of this type was stored in it.
            #[inline]
            #[must_use]
            pub unsafe fn $name(&self) -> $number {
                // Read as wide as it was stored: a processor waits for the store of a narrower one.
                // SAFETY: these bytes are in the slot, and the caller promises that they are set.
                let bits = unsafe { self.0.as_ptr().cast::<$bits>().read_unaligned() };
                $of($bits::from_le(bits))
            }
        )*}

        $(
            impl From<$number> for Slot {
                #[inline]
                fn from(number: $number) -> Self {
                    Self::of(u128::from($to(number)))
                }
            }
        )*
    };
}

numbers! {
    i32 i32 as u32, u32::cast_signed, i32::cast_unsigned;
    i64 i64 as u64, u64::cast_signed, i64::cast_unsigned;
    f32 f32 as u32, f32::from_bits, f32::to_bits;
    f64 f64 as u64, f64::from_bits, f64::to_bits;
    v128 u128 as u128, u128::from, u128::from;
}

impl From<Value> for Slot {
    #[inline]
    fn from(value: Value) -> Self {
        value.convert(Self::from, Self::from, Self::from, Self::from, Self::from)
    }
}

impl fmt::Debug for Slot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Slot").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_stored_is_what_is_read() {
        for value in [
            Value::I32(i32::MIN + 7),
            Value::I64(i64::MIN + 7),
            Value::F32(f32::MIN_POSITIVE),
            Value::F64(-0.1),
            Value::V128(0x0123_4567_89ab_cdef_0011_2233_4455_6677),
        ] {
            // SAFETY: it was stored just now.
            assert_eq!(unsafe { Slot::from(value).value(value.ty()) }, value);
        }
        // The bits of a number which is none pass through.
        let bits = 0x7fa0_0001;
        // SAFETY: as above.
        assert_eq!(unsafe { Slot::from(f32::from_bits(bits)).f32() }.to_bits(), bits);
    }
}

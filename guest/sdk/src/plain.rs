//! Types of which all bytes are values.
#![allow(unsafe_code)]

/// A number whose bytes may be anything: integers and floats.
///
/// WebAssembly is little endian, and so are the bytes of layers.
///
/// ```
/// fn bytes_of<T: polychord_guest::Plain>(values: &[T]) -> usize {
///     size_of_val(values)
/// }
/// assert_eq!(bytes_of(&[1.0_f32, 2.0]), 8);
/// ```
///
/// # Safety
///
/// It has no padding, no invalid bits and no destructor.
pub unsafe trait Plain: Copy + sealed::Sealed + 'static {}

mod sealed {
    pub trait Sealed {}
}

macro_rules! plain {
    ($($number:ty)*) => {$(
        impl sealed::Sealed for $number {}
        // SAFETY: a number.
        unsafe impl Plain for $number {}
    )*};
}
plain!(u8 i8 u16 i16 u32 i32 u64 i64 u128 i128 f32 f64);

/// Bytes as values of another type, if they are aligned for it and a whole number of them.
pub(crate) fn values<T: Plain>(bytes: &[u8]) -> Option<&[T]> {
    // SAFETY: all bytes are values of plain types.
    let (before, values, after) = unsafe { bytes.align_to::<T>() };
    (before.is_empty() && after.is_empty()).then_some(values)
}

//! The SIMD instructions of both address widths, with loads and stores through arrays.
//!
//! Arrays carry their length in their type, so that callers need no unsafe code, and no
//! check is left at run time.
#![allow(unsafe_code)]

#[cfg(target_arch = "wasm32")]
pub(crate) use core::arch::wasm32::*;
#[cfg(target_arch = "wasm64")]
pub(crate) use core::arch::wasm64::*;

/// Four zeros.
pub(crate) const ZERO: v128 = f32x4(0.0, 0.0, 0.0, 0.0);

/// Loads four floats.
#[inline(always)]
pub(crate) fn load(from: &[f32; 4]) -> v128 {
    // SAFETY: the array is 16 readable bytes, and `v128.load` asks for no alignment.
    unsafe { v128_load(from.as_ptr().cast()) }
}

/// Stores four floats.
#[inline(always)]
pub(crate) fn store(to: &mut [f32; 4], value: v128) {
    // SAFETY: the array is 16 writable bytes, and `v128.store` asks for no alignment.
    unsafe { v128_store(to.as_mut_ptr().cast(), value) }
}

/// Loads 16 bytes.
#[inline(always)]
pub(crate) fn load_bytes(from: &[u8; 16]) -> v128 {
    // SAFETY: the array is 16 readable bytes, and `v128.load` asks for no alignment.
    unsafe { v128_load(from.as_ptr().cast()) }
}

/// Loads four 16-bit integers and extends their sign to 32 bits.
#[inline(always)]
pub(crate) fn load_i16x4(from: &[u8; 8]) -> v128 {
    // SAFETY: the array is 8 readable bytes, and `v128.load16x4_s` asks for no alignment.
    unsafe { i32x4_load_extend_i16x4(from.as_ptr().cast()) }
}

/// The `N` elements of an array from number `AT` on; does not compile beyond the end.
#[inline(always)]
pub(crate) fn part<const AT: usize, const N: usize, T, const LEN: usize>(
    from: &[T; LEN],
) -> &[T; N] {
    const { assert!(AT + N <= LEN) };
    // SAFETY: elements `AT..AT + N` are inside the array (asserted above when compiling).
    unsafe { &*from.as_ptr().add(AT).cast() }
}

/// A vector of four floats, from memory that need not be long enough: missing ones are `pad`.
#[inline(always)]
pub(crate) fn load_padded(from: &[f32], pad: f32) -> v128 {
    let mut four = [pad; 4];
    for (slot, value) in four.iter_mut().zip(from) {
        *slot = *value;
    }
    load(&four)
}

/// The four lanes as an array.
#[inline(always)]
pub(crate) fn lanes(value: v128) -> [f32; 4] {
    let mut four = [0.0; 4];
    store(&mut four, value);
    four
}

/// Two bytes in all eight 16-bit lanes.
#[inline(always)]
pub(crate) fn splat_16(from: &[u8; 2]) -> v128 {
    // SAFETY: the array is 2 readable bytes, and `v128.load16_splat` asks for no alignment.
    unsafe { v128_load16_splat(from.as_ptr().cast()) }
}

/// Four bytes in all four 32-bit lanes.
#[inline(always)]
pub(crate) fn splat_32(from: &[u8; 4]) -> v128 {
    // SAFETY: the array is 4 readable bytes, and `v128.load32_splat` asks for no alignment.
    unsafe { v128_load32_splat(from.as_ptr().cast()) }
}

/// Sixteen bytes, number `index` of an array that must be long enough.
#[inline(always)]
pub(crate) fn sixteen<const LEN: usize>(from: &[u8; LEN], index: usize) -> v128 {
    load_bytes(&from.as_chunks::<16>().0[index])
}

/// Three little-endian words.
#[inline(always)]
pub(crate) fn words(from: &[u8; 12]) -> [u32; 3] {
    let (words, _) = from.as_chunks::<4>();
    [u32::from_le_bytes(words[0]), u32::from_le_bytes(words[1]), u32::from_le_bytes(words[2])]
}

/// A number of bits to shift by.
#[inline(always)]
#[expect(clippy::cast_possible_truncation, reason = "lanes have fewer bits")]
pub(crate) const fn shift(bits: usize) -> u32 {
    bits as u32
}

/// Each 32 bits of a vector in all lanes.
#[inline(always)]
pub(crate) fn four_times(v: v128) -> [v128; 4] {
    [
        i32x4_shuffle::<0, 0, 0, 0>(v, v),
        i32x4_shuffle::<1, 1, 1, 1>(v, v),
        i32x4_shuffle::<2, 2, 2, 2>(v, v),
        i32x4_shuffle::<3, 3, 3, 3>(v, v),
    ]
}

/// Loads eight signed bytes as 16-bit integers.
#[inline(always)]
pub(crate) fn load_i8x8(from: &[u8; 8]) -> v128 {
    // SAFETY: the array is 8 readable bytes, and `v128.load8x8_s` asks for no alignment.
    unsafe { i16x8_load_extend_i8x8(from.as_ptr().cast()) }
}

/// Loads eight unsigned bytes as 16-bit integers.
#[inline(always)]
pub(crate) fn load_u8x8(from: &[u8; 8]) -> v128 {
    // SAFETY: the array is 8 readable bytes, and `v128.load8x8_u` asks for no alignment.
    unsafe { u16x8_load_extend_u8x8(from.as_ptr().cast()) }
}

/// Loads two times eight bytes.
#[inline(always)]
pub(crate) fn load_two([a, b]: [&[i8; 8]; 2]) -> v128 {
    // SAFETY: the arrays are 8 readable bytes, and neither instruction asks for alignment.
    unsafe {
        let first = v128_load64_zero(a.as_ptr().cast());
        v128_load64_lane::<1>(first, b.as_ptr().cast())
    }
}

/// Loads four times four bytes.
#[inline(always)]
pub(crate) fn load_four([a, b, c, d]: [&[i8; 4]; 4]) -> v128 {
    // SAFETY: the arrays are 4 readable bytes, and neither instruction asks for alignment.
    unsafe {
        let first = v128_load32_zero(a.as_ptr().cast());
        let two = v128_load32_lane::<1>(first, b.as_ptr().cast());
        let three = v128_load32_lane::<2>(two, c.as_ptr().cast());
        v128_load32_lane::<3>(three, d.as_ptr().cast())
    }
}

/// Stores 16 bytes.
#[inline(always)]
pub(crate) fn store_bytes(to: &mut [u8; 16], value: v128) {
    // SAFETY: the array is 16 writable bytes, and `v128.store` asks for no alignment.
    unsafe { v128_store(to.as_mut_ptr().cast(), value) }
}

/// The 16-bit integers of a vector.
#[inline(always)]
pub(crate) fn eight(v: v128) -> [u16; 8] {
    [
        u16x8_extract_lane::<0>(v),
        u16x8_extract_lane::<1>(v),
        u16x8_extract_lane::<2>(v),
        u16x8_extract_lane::<3>(v),
        u16x8_extract_lane::<4>(v),
        u16x8_extract_lane::<5>(v),
        u16x8_extract_lane::<6>(v),
        u16x8_extract_lane::<7>(v),
    ]
}

/// Eight numbers below 2^15 as 16-bit integers.
#[inline(always)]
pub(crate) fn narrow_eight([a, b, c, d, e, f, g, h]: &[u32; 8]) -> v128 {
    i16x8_narrow_i32x4(u32x4(*a, *b, *c, *d), u32x4(*e, *f, *g, *h))
}

/// Has a value computed here, by storing it where nothing reads it.
///
/// Cranelift computes what has no effect as late as it can: after all loads of a straight piece
/// of code, of which there may be more than registers. What is stored comes before loads that
/// follow.
#[inline(always)]
pub(crate) fn settle(value: v128) -> v128 {
    let mut slot = core::mem::MaybeUninit::<v128>::uninit();
    // SAFETY: the slot is ours, and large and aligned enough.
    unsafe { slot.as_mut_ptr().write_volatile(value) };
    value
}

/// Zero, which no compiler knows.
#[inline(always)]
pub(crate) fn never() -> u32 {
    static NEVER: core::sync::atomic::AtomicU32 = core::sync::atomic::AtomicU32::new(0);
    // SAFETY: a number that is there, and that nothing changes.
    unsafe { NEVER.as_ptr().read_volatile() }
}

/// Has values computed here, since they would be others if `never` were not zero: [`settle`] of
/// many, for one instruction.
///
/// Where ways meet, Cranelift needs the values of each.
#[inline(always)]
pub(crate) fn settle_all(values: &mut [v128], never: u32) {
    if never != 0 {
        let place = ZERO;
        // SAFETY: the place is ours. No compiler knows what is there, so that it makes no choice
        // between values out of this condition.
        values.fill(unsafe { (&raw const place).read_volatile() });
    }
}

/// Lane `i` of each vector becomes vector `i`.
#[inline(always)]
pub(crate) fn transpose([a, b, c, d]: [v128; 4]) -> [v128; 4] {
    let (ab, cd) = (i32x4_shuffle::<0, 4, 1, 5>(a, b), i32x4_shuffle::<0, 4, 1, 5>(c, d));
    let (ef, gh) = (i32x4_shuffle::<2, 6, 3, 7>(a, b), i32x4_shuffle::<2, 6, 3, 7>(c, d));
    [
        i64x2_shuffle::<0, 2>(ab, cd),
        i64x2_shuffle::<1, 3>(ab, cd),
        i64x2_shuffle::<0, 2>(ef, gh),
        i64x2_shuffle::<1, 3>(ef, gh),
    ]
}

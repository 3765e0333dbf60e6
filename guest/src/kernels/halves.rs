//! Conversions between 16-bit and 32-bit floats.

use crate::simd::*;

/// Four 16-bit floats, each sign-extended to a lane, as 32-bit floats.
///
/// Sign, exponent and fraction move to their places, with the exponent 112 too small,
/// which one exact multiplication mends; so subnormals come out right. Infinity and NaN
/// become numbers of 2^16 and more: nothing checks for them, and no model has them.
#[inline(always)]
pub(super) fn from_bits(halves: v128) -> v128 {
    at_bit_13(i32x4_shl(halves, 13))
}

/// Like [`from_bits`], for halves in the upper 16 bits of their lanes; the lower do not matter.
#[inline(always)]
pub(super) fn from_upper_bits(lanes: v128) -> v128 {
    at_bit_13(i32x4_shr(lanes, 3))
}

#[inline(always)]
fn at_bit_13(shifted: v128) -> v128 {
    const TWO_TO_112: f32 = f32::from_bits((127 + 112) << 23);
    let kept = u32x4_splat(0x8fff_e000);
    f32x4_mul(v128_and(shifted, kept), f32x4_splat(TWO_TO_112))
}

/// The nearest 16-bit float, ties to even, as a 32-bit one; those too large for one keep 11
/// bits of their fraction.
pub(super) fn round(x: f32) -> f32 {
    const SMALLEST_NORMAL: f32 = 6.103_515_6e-5;
    let size = x.abs();
    let rounded = if size < SMALLEST_NORMAL {
        // Between 0.5 and 1, floats are multiples of 2^-24, as subnormal 16-bit ones are.
        (size + 0.5) - 0.5
    } else {
        let bits = size.to_bits();
        f32::from_bits((bits + 0xfff + (bits >> 13 & 1)) & !0x1fff)
    };
    rounded.copysign(x)
}

/// A stored 16-bit float.
pub(crate) type Half = [u8; 2];

/// Stores each float as the nearest 16-bit one: ties to even, and at most [`LARGEST`]. NaN counts
/// as that without a sign, as engines may choose its bits.
pub(crate) fn to_halves(x: &[f32], out: &mut [Half]) {
    for (x, out) in x.chunks(4).zip(out.chunks_mut(4)) {
        let bits = to_bits(load_padded(x, 0.0));
        let bits = u16x8_narrow_i32x4(bits, bits);
        let bits = u64x2_extract_lane::<0>(bits).to_le_bytes();
        out.copy_from_slice(&bits.as_chunks().0[..out.len()]);
    }
}

/// Bits of the largest finite 16-bit float, 65,504.
const LARGEST: u32 = 0x7bff;

/// The bits of the nearest 16-bit floats, in the lower halves of the lanes.
#[inline(always)]
fn to_bits(x: v128) -> v128 {
    const SMALLEST_NORMAL: u32 = (127 - 14) << 23;
    let size = v128_and(x, u32x4_splat(0x7fff_ffff));
    // Between 0.5 and 1, floats are multiples of 2^-24, as subnormal 16-bit ones are.
    let half = f32x4_splat(0.5);
    let subnormal = i32x4_sub(f32x4_add(size, half), half);
    let odd = v128_and(u32x4_shr(size, 13), u32x4_splat(1));
    let rounded = i32x4_add(i32x4_add(size, u32x4_splat(0xfff)), odd);
    let normal = i32x4_sub(u32x4_shr(rounded, 13), u32x4_splat(112 << 10));
    let is_small = u32x4_lt(size, u32x4_splat(SMALLEST_NORMAL));
    let bits = u32x4_min(v128_bitselect(subnormal, normal, is_small), u32x4_splat(LARGEST));
    let sign = v128_and(u32x4_shr(x, 16), u32x4_splat(0x8000));
    v128_or(bits, v128_and(sign, f32x4_eq(x, x)))
}

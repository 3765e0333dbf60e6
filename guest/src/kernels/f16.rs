//! 16-bit floats, alone and as scales of quantised blocks.

use super::dense::{Dense, dense_format};
use crate::simd::*;

/// The type `F16`.
pub(super) struct F16;

impl Dense<8> for F16 {
    #[inline(always)]
    fn widen(four: &[u8; 8]) -> v128 {
        from_bits(load_i16x4(four))
    }
}

dense_format!(F16, 8);

/// Four 16-bit floats, each sign-extended to a lane, as 32-bit floats.
///
/// Sign, exponent and fraction move to their places, with the exponent 112 too small,
/// which one exact multiplication mends; so subnormals come out right. Infinity and NaN
/// become numbers of 2^16 and more: nothing checks for them, and no model has them.
#[inline(always)]
pub(super) fn from_bits(halves: v128) -> v128 {
    at_bit_13(i32x4_shl(halves, 13))
}

/// The same for halves that are the upper 16 bits of their lanes; the lower do not matter.
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

//! Values of -1 to 1, five in a byte, times a scale.

use super::decoded::{Decode, Decoded, decoded_format};
use super::superblock::factor;
use crate::simd::*;

/// Bytes of a superblock (ggml's `block_tq1_0`): 48 bytes of five values each, 4 bytes of four
/// values each, and the scale.
pub(super) const BYTES: usize = 54;

/// The type `TQ1_0`.
#[allow(non_camel_case_types, reason = "this is ggml's name")]
pub(super) struct TQ1_0;

/// The first digit behind the point, less one, of each byte: it is a fraction of 256 with base 3.
#[inline(always)]
fn first_digits(bytes: v128) -> v128 {
    // From 86 on three times the byte is 256 and more, from 171 on 512 and more.
    let one = u8x16_ge(bytes, u8x16_splat(86));
    let two = u8x16_ge(bytes, u8x16_splat(171));
    i8x16_sub(i8x16_splat(-1), i8x16_add(one, two))
}

/// The fractions without their first digits.
#[inline(always)]
fn next_digits(bytes: v128) -> v128 {
    i8x16_add(bytes, i8x16_add(bytes, bytes))
}

impl Decode<BYTES> for TQ1_0 {
    #[inline(never)]
    fn decode(block: &[u8; BYTES], to: &mut Decoded) {
        // Two groups have the first values of 32 bytes, the next two the second ones...
        let mut two = [0, 1].map(|i| sixteen(part::<0, 32, _, BYTES>(block), i));
        let mut one = load_bytes(part::<32, 16, _, BYTES>(block));
        for i in 0..5 {
            to.set(2 * i, first_digits(two[0]));
            to.set(2 * i + 1, first_digits(two[1]));
            to.set(10 + i, first_digits(one));
            (two, one) = (two.map(next_digits), next_digits(one));
        }
        // ... and the last group has four values of four bytes, likewise.
        let once = splat_32(part::<48, 4, _, BYTES>(block));
        let twice = next_digits(once);
        let three_times = next_digits(twice);
        let low = i32x4_shuffle::<0, 4, 0, 4>(once, twice);
        let high = i32x4_shuffle::<0, 4, 0, 4>(three_times, next_digits(three_times));
        to.set(15, first_digits(i64x2_shuffle::<0, 2>(low, high)));
        to.set_scales(factor(part::<52, 2, _, BYTES>(block)), [i16x8_splat(1); 2]);
    }
}

decoded_format!(TQ1_0);

//! Types whose superblocks are decoded before they are multiplied.
//!
//! What these types store is looked up in tables, which takes longer than a product. So it is done
//! once, into a superblock of another type ([`Decoded`]), and one code multiplies that for all of
//! them: the guest stays small.

use super::activations::{Activations, COLUMNS, HEIGHT, SUPER};
use super::columns;
use super::groups::{Super, UnpackedSuper};
use super::order::sum;
use super::product::Values;
use super::rows::{Output, Rows};
use super::superblock::{self, Groups, Superblock};
use super::superblocks::{self, Quarters};
use crate::simd::*;

/// Bytes of a decoded superblock: 256 values, 16 scales of 16 bits, and their factor, a float.
const BYTES: usize = 292;

/// A superblock that is decoded: values within -63..=63 in groups of 16.
#[derive(Clone, Copy)]
pub(super) struct Decoded([u8; BYTES]);

/// A type of which 256 weights take `B` bytes.
pub(super) trait Decode<const B: usize> {
    /// Decodes a superblock: all of it.
    fn decode(block: &[u8; B], to: &mut Decoded);
}

impl Decoded {
    const ZERO: Self = Self([0; BYTES]);

    /// Sets the values of group `group & 15`.
    #[inline(always)]
    pub(super) fn set(&mut self, group: usize, values: v128) {
        let (all, _) = self.0.as_chunks_mut::<16>();
        store_bytes(&mut all[group & 15], values);
    }

    /// Sets the scales of all groups, and what they are multiplied with, in all lanes.
    #[inline(always)]
    pub(super) fn set_scales(&mut self, factor: v128, [low, high]: [v128; 2]) {
        let (all, rest) = self.0.as_chunks_mut::<16>();
        store_bytes(&mut all[16], low);
        store_bytes(&mut all[17], high);
        rest.copy_from_slice(&f32x4_extract_lane::<0>(factor).to_le_bytes());
    }
}

impl Superblock<BYTES> for Decoded {
    const OFFSET: i8 = 0;
    const MINIMUM: bool = false;
    const VALUES: Values = Values::Medium;

    #[inline(always)]
    fn groups(block: &[u8; BYTES]) -> Groups {
        let scales = part::<256, 32, _, BYTES>(block);
        Groups {
            d: splat_32(part::<288, 4, _, BYTES>(block)),
            d_min: ZERO,
            scales: [sixteen(scales, 0), sixteen(scales, 1)],
            minima: [ZERO; 2],
        }
    }

    #[inline(always)]
    fn values(block: &[u8; BYTES], group: usize) -> v128 {
        sixteen(part::<0, 256, _, BYTES>(block), group & 15)
    }

    #[inline(always)]
    fn four_groups(block: &[u8; BYTES], four: usize) -> [v128; 4] {
        let values = &part::<0, 256, _, BYTES>(block).as_chunks::<64>().0[four & 3];
        [0, 1, 2, 3].map(|group| sixteen(values, group))
    }
}

/// Expands a stored row.
pub(super) fn expand<T: Decode<B>, const B: usize>(row: &[u8], out: &mut [f32]) {
    let mut decoded = Decoded::ZERO;
    for (block, out) in row.as_chunks::<B>().0.iter().zip(out.as_chunks_mut::<SUPER>().0) {
        T::decode(block, &mut decoded);
        expand_block(&decoded, out);
    }
}

#[inline(never)]
fn expand_block(w: &Decoded, out: &mut [f32; SUPER]) {
    superblock::expand::<Decoded, BYTES>(&w.0, out);
}

/// The product of a stored row with `x`, in the one order.
pub(super) fn dot<T: Decode<B>, const B: usize>(row: &[u8], x: &[f32]) -> f32 {
    let (mut decoded, mut accumulators) = (Decoded::ZERO, [ZERO; 4]);
    for (block, x) in row.as_chunks::<B>().0.iter().zip(x.as_chunks::<SUPER>().0) {
        T::decode(block, &mut decoded);
        dot_block(&mut accumulators, &decoded, x);
    }
    sum(accumulators)
}

#[inline(never)]
fn dot_block(accumulators: &mut [v128; 4], w: &Decoded, x: &[f32]) {
    let mut sums = *accumulators;
    superblock::add::<Decoded, BYTES>(&mut sums, &w.0, x);
    *accumulators = sums;
}

/// The product with activations that are quantized.
pub(super) fn multiply<T: Decode<B>, const B: usize>(
    w: &Rows<'_>,
    activations: &mut Activations,
    y: Output<'_>,
) {
    let len = w.cols / SUPER;
    if y.columns == 1 {
        let x = &activations.supers[..len];
        w.in_bursts(y.y, |w, y| multiply_column::<T, B>(w, x, y));
    } else {
        let (x, _) = activations.supers.as_chunks::<COLUMNS>();
        let x = &x[..y.columns.div_ceil(COLUMNS) * len];
        let (room, unpack) = (&mut *activations.unpacked_supers, unpack::<T, B>);
        columns::multiply::<Quarters<Decoded, BYTES>>(w, len, x, y, room, unpack);
    }
}

/// Multiplies each stored row with the only column.
fn multiply_column<T: Decode<B>, const B: usize>(w: &Rows<'_>, x: &[Super], y: &mut [f32]) {
    let mut decoded = Decoded::ZERO;
    for (row, y) in w.bytes.chunks_exact(w.row_bytes).zip(y) {
        let mut sum = 0.0;
        for (block, x) in row.as_chunks::<B>().0.iter().zip(x) {
            T::decode(block, &mut decoded);
            sum = add(sum, &decoded, x);
        }
        *y = sum;
    }
}

#[inline(never)]
fn add(sum: f32, w: &Decoded, x: &Super) -> f32 {
    superblocks::add::<Decoded, BYTES>(sum, &w.0, x)
}

/// Unpacks stored rows.
fn unpack<T: Decode<B>, const B: usize>(
    rows: [&[u8]; HEIGHT],
    out: &mut [[UnpackedSuper; HEIGHT]],
) {
    let mut decoded = Decoded::ZERO;
    let rows = rows.map(|row| &row.as_chunks::<B>().0[..out.len()]);
    for (at, out) in out.iter_mut().enumerate() {
        for (row, out) in rows.iter().zip(out) {
            T::decode(&row[at], &mut decoded);
            unpack_block(&decoded, out);
        }
    }
}

#[inline(never)]
fn unpack_block(w: &Decoded, out: &mut UnpackedSuper) {
    superblocks::unpack::<Decoded, BYTES>(&w.0, out);
}

/// Sixteen scales of four bits, two in each byte, the lower one first, each to the odd number
/// `2 * scale + 1`.
#[inline(always)]
pub(super) fn odd_scales(bytes: &[u8; 8]) -> [v128; 2] {
    let bytes = load_u8x8(bytes);
    let both = v128_or(v128_and(bytes, u16x8_splat(15)), i16x8_shl(u16x8_shr(bytes, 4), 8));
    superblock::widen(both).map(odd)
}

/// `2 * number + 1` of 16-bit numbers.
#[inline(always)]
pub(super) fn odd(numbers: v128) -> v128 {
    i16x8_add(i16x8_shl(numbers, 1), i16x8_splat(1))
}

/// The values with those negative of which a bit of `signs` is set.
#[inline(always)]
pub(super) fn with_signs(values: v128, signs: u16) -> v128 {
    let negative = super::quantized::bits(u16x8_splat(signs));
    i8x16_sub(v128_xor(values, negative), negative)
}

/// Four times seven bits as bytes, of which the eighth bit makes the number of ones even.
#[inline(always)]
pub(super) fn even_ones(bits: u32) -> [u16; 2] {
    let bytes = bits & 0x7f | bits << 1 & 0x7f00 | bits << 2 & 0x7f_0000 | bits << 3 & 0x7f00_0000;
    let ones = bytes ^ bytes >> 4;
    let ones = ones ^ ones >> 2;
    let odd = (ones ^ ones >> 1) & 0x0101_0101;
    let [a, b, c, d] = (bytes | odd << 7).to_le_bytes();
    [u16::from_le_bytes([a, b]), u16::from_le_bytes([c, d])]
}

/// Makes a [`Format`](super::rows::Format) of a type that is decoded.
macro_rules! decoded_format {
    ($name:ident) => {
        impl super::rows::Format for $name {
            #[inline(never)]
            fn expand(row: &[u8], out: &mut [f32]) {
                super::decoded::expand::<Self, BYTES>(row, out);
            }
            #[inline(always)]
            fn dot(row: &[u8], x: &[f32]) -> f32 {
                super::decoded::dot::<Self, BYTES>(row, x)
            }
            const FORM: Option<super::activations::Form> = Some(super::activations::Form::Super);
            fn multiply_integer(
                w: &super::rows::Rows<'_>,
                x: &mut super::activations::Activations,
                y: super::rows::Output<'_>,
            ) {
                super::decoded::multiply::<Self, BYTES>(w, x, y);
            }
        }
    };
}
pub(super) use decoded_format;

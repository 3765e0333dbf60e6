//! ggml's tensor types, weight by weight: slow, and plain enough to be checked by reading.
#![allow(clippy::cast_possible_truncation, reason = "bits and small numbers")]
#![allow(clippy::cast_sign_loss, reason = "bits")]

use polychord::model::gguf::GgmlType;

/// Random numbers that are the same everywhere (SplitMix64).
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// At least -1 and below 1.
    pub(crate) fn uniform(&mut self) -> f32 {
        (self.next() >> 40) as f32 / (1 << 23) as f32 - 1.0
    }
}

/// All weights of stored blocks.
pub(crate) fn expand(kind: GgmlType, stored: &[u8]) -> Vec<f32> {
    let blocks = stored.chunks_exact(kind.block_bytes() as usize);
    let len = kind.block_elements() as usize;
    blocks.flat_map(|block| (0..len).map(move |i| weight(kind, block, i))).collect()
}

/// Weight `i` of a block: what `dequantize_row_*` of ggml-quants.c computes, in its order.
fn weight(kind: GgmlType, block: &[u8], i: usize) -> f32 {
    let half = |at: usize| u16::from_le_bytes([block[at], block[at + 1]]);
    let scale = |at| f16(half(at));
    // `bits` of the byte at `at`, counted from bit `shift` on.
    let field = |at: usize, shift: usize, bits: u32| {
        f32::from(block[at] >> shift & ((1_u16 << bits) - 1) as u8)
    };
    let nibble = |at: usize| field(at + i % 16, i / 16 * 4, 4);
    let fifth = |at: usize| 16.0 * field(at + i / 8, i % 8, 1);
    // In the types with blocks of 256: two bits, four bits, and one bit of a weight.
    let pair = |at: usize| field(at + i / 128 * 32 + i % 32, i % 128 / 32 * 2, 2);
    let four = |at: usize| field(at + i / 64 * 32 + i % 32, i % 64 / 32 * 4, 4);
    let one = |at: usize| field(at + i % 32, i / 32, 1);
    match kind {
        GgmlType::F32 => f32::from_le_bytes(block.try_into().unwrap()),
        GgmlType::F16 => scale(0),
        GgmlType::BF16 => f32::from_bits(u32::from(half(0)) << 16),
        GgmlType::Q8_0 => scale(0) * f32::from(block[2 + i].cast_signed()),
        GgmlType::Q4_0 => scale(0) * (nibble(2) - 8.0),
        GgmlType::Q4_1 => scale(0) * nibble(4) + scale(2),
        GgmlType::Q5_0 => scale(0) * (nibble(6) + fifth(2) - 16.0),
        GgmlType::Q5_1 => scale(0) * (nibble(8) + fifth(4)) + scale(2),
        GgmlType::Q2_K => {
            let (factor, minimum) = (field(i / 16, 0, 4), field(i / 16, 4, 4));
            scale(80) * factor * pair(16) - scale(82) * minimum
        }
        GgmlType::Q3_K => {
            let factor = field(96 + i / 16 % 8, i / 128 * 4, 4)
                + 16.0 * field(104 + i / 16 % 4, i / 64 * 2, 2);
            scale(108) * (factor - 32.0) * (pair(32) + 4.0 * one(0) - 4.0)
        }
        GgmlType::Q4_K => {
            let (factor, minimum) = six_bits(&block[4..16], i / 32);
            scale(0) * factor * four(16) - scale(2) * minimum
        }
        GgmlType::Q5_K => {
            let (factor, minimum) = six_bits(&block[4..16], i / 32);
            scale(0) * factor * (four(48) + 16.0 * one(16)) - scale(2) * minimum
        }
        GgmlType::Q6_K => {
            let low = field(i / 128 * 64 + i % 64, i % 128 / 64 * 4, 4);
            let factor = f32::from(block[192 + i / 16].cast_signed());
            scale(208) * factor * (low + 16.0 * pair(128) - 32.0)
        }
        _ => panic!("the tests know no {kind}"),
    }
}

/// Scale and minimum of part `j` of a `Q4_K` or `Q5_K` block (`get_scale_min_k4`).
fn six_bits(packed: &[u8], j: usize) -> (f32, f32) {
    let (factor, minimum) = match j {
        0..4 => (packed[j] & 63, packed[j + 4] & 63),
        _ => {
            (packed[j + 4] & 15 | packed[j - 4] >> 6 << 4, packed[j + 4] >> 4 | packed[j] >> 6 << 4)
        }
    };
    (factor.into(), minimum.into())
}

/// Random blocks for `len` weights: any bits, but scales by which the weights' root mean
/// square is about `size`.
pub(crate) fn random(kind: GgmlType, len: usize, size: f32, random: &mut Random) -> Vec<u8> {
    let blocks = len / kind.block_elements() as usize;
    let mut stored = Vec::new();
    for _ in 0..blocks {
        let value = size * 3_f32.sqrt() * random.uniform();
        match kind {
            GgmlType::F32 => stored.extend(value.to_le_bytes()),
            GgmlType::F16 => stored.extend(to_f16(value).to_le_bytes()),
            GgmlType::BF16 => stored.extend(&value.to_le_bytes()[2..]),
            _ => {
                let mut block = vec![0; kind.block_bytes() as usize];
                block.fill_with(|| random.next() as u8);
                set_scales(kind, &mut block, size, random);
                stored.extend(block);
            }
        }
    }
    stored
}

/// Sets the scale of a block of random bits, and its minimum so that the mean is about zero.
fn set_scales(kind: GgmlType, block: &mut [u8], size: f32, random: &mut Random) {
    // Root mean square of the weights where the scale is 1, where the scale is, and where the
    // minimum and how many scales it is.
    let (unit, at, minimum) = match kind {
        GgmlType::Q8_0 => (74.0, 0, None),
        GgmlType::Q4_0 => (4.6, 0, None),
        GgmlType::Q4_1 => (4.6, 0, Some((2, -7.5))),
        GgmlType::Q5_0 => (9.2, 0, None),
        GgmlType::Q5_1 => (9.2, 0, Some((2, -15.5))),
        GgmlType::Q2_K => (13.9, 80, Some((82, 1.5))),
        GgmlType::Q3_K => (43.0, 108, None),
        GgmlType::Q4_K => (258.0, 0, Some((2, 7.5))),
        GgmlType::Q5_K => (526.0, 0, Some((2, 15.5))),
        GgmlType::Q6_K => (1367.0, 208, None),
        _ => panic!("the tests know no {kind}"),
    };
    let sign = if random.next() & 1 == 0 { 1.0 } else { -1.0 };
    let scale = sign * size / unit * (1.0 + 0.5 * random.uniform());
    let mut put =
        |at: usize, value| block[at..at + 2].copy_from_slice(&to_f16(value).to_le_bytes());
    put(at, scale);
    if let Some((at, factor)) = minimum {
        put(at, factor * scale);
    }
}

/// A 16-bit float as a 32-bit one.
pub(crate) fn f16(bits: u16) -> f32 {
    let sign = if bits >> 15 == 0 { 1.0 } else { -1.0 };
    let (exponent, fraction) = (i32::from(bits >> 10 & 31), f32::from(bits & 1023));
    sign * match exponent {
        0 => fraction * 2_f32.powi(-24),
        31 => panic!("{bits:#06x} is not finite"),
        _ => (1024.0 + fraction) * 2_f32.powi(exponent - 25),
    }
}

/// The 16-bit float next to a number below 2^16, towards zero.
fn to_f16(value: f32) -> u16 {
    let sign = u16::from(value.is_sign_negative()) << 15;
    let size = value.abs();
    if size < 2_f32.powi(-14) {
        return sign | (size * 2_f32.powi(24)) as u16;
    }
    sign | ((size.to_bits() >> 13) - (112 << 10)) as u16
}

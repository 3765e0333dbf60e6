//! ggml's tensor types, weight by weight: slow, and plain enough to be checked by reading.
#![allow(clippy::cast_possible_truncation, reason = "bits and small numbers")]
#![allow(clippy::cast_sign_loss, reason = "bits")]

use std::sync::OnceLock;

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
        GgmlType::IQ4_NL => scale(0) * uneven(nibble(2)),
        GgmlType::IQ4_XS => {
            let high = half(2) >> (i / 32 * 2) & 3;
            let factor = field(4 + i / 64, i / 32 % 2 * 4, 4) + 16.0 * f32::from(high);
            scale(0) * (factor - 32.0) * uneven(field(8 + i / 32 * 16 + i % 16, i % 32 / 16 * 4, 4))
        }
        GgmlType::MXFP4 => {
            let sizes = [0.0, 1.0, 2.0, 3.0, 4.0, 6.0, 8.0, 12.0];
            let number = nibble(1) as usize;
            let value = if number < 8 { sizes[number] } else { 0.0 - sizes[number - 8] };
            // 2^(e - 128) is no number of its own for the lowest exponents.
            let half = if block[0] == 0 { 0.25 } else { 0.5 };
            let power = f32::from_bits(u32::from(block[0].max(1)) << 23);
            if block[0] == 255 { 2_f32.powi(127) * value } else { power * half * value }
        }
        GgmlType::TQ1_0 => {
            let (byte, digit) = match i {
                0..160 => (i % 32, i / 32),
                160..240 => (32 + i % 16, (i - 160) / 16),
                _ => (48 + i % 4, (i - 240) / 4),
            };
            let rest = u32::from(block[byte]) * 3_u32.pow(digit as u32) % 256;
            scale(52) * (((rest * 3) >> 8) as f32 - 1.0)
        }
        GgmlType::TQ2_0 => scale(64) * (pair(0) - 1.0),
        GgmlType::IQ2_XXS | GgmlType::IQ3_XXS => {
            let (table, quarters) = match kind {
                GgmlType::IQ2_XXS => (&IQ2_XXS, 0.25),
                _ => (&IQ3_XXS, 0.5),
            };
            // For 32 weights each: numbers of entries, then 28 signs and a scale.
            let (number, rest) = match kind {
                GgmlType::IQ2_XXS => (block[2 + i / 32 * 8 + i % 32 / 8], 2 + i / 32 * 8 + 4),
                _ => (block[2 + i / 4], 66 + i / 32 * 4),
            };
            let rest = u32::from_le_bytes(block[rest..rest + 4].try_into().unwrap());
            let negative = even_sign(rest >> (i % 32 / 8 * 7) & 127, i % 8);
            let factor = (0.5 + (rest >> 28) as f32) * quarters;
            signed(scale(0) * factor * table.value(number.into(), i), negative)
        }
        GgmlType::IQ2_XS => {
            let number = half(2 + i / 8 * 2);
            let value = IQ2_XS.value(usize::from(number & 511), i);
            let factor = (0.5 + field(66 + i / 32, i / 16 % 2 * 4, 4)) * 0.25;
            signed(scale(0) * factor * value, even_sign(u32::from(number >> 9), i % 8))
        }
        GgmlType::IQ2_S => {
            let upper = usize::from(block[66 + i / 32] >> (i / 8 % 4 * 2) & 3);
            let value = IQ2_S.value(usize::from(block[2 + i / 8]) | upper << 8, i);
            let factor = (0.5 + field(74 + i / 32, i / 16 % 2 * 4, 4)) * 0.25;
            signed(scale(0) * factor * value, block[34 + i / 8] >> (i % 8) & 1 == 1)
        }
        GgmlType::IQ3_S => {
            let upper = usize::from(block[66 + i / 32] >> (i / 4 % 8) & 1);
            let value = IQ3_S.value(usize::from(block[2 + i / 4]) | upper << 8, i);
            let factor = 1.0 + 2.0 * field(106 + i / 64, i / 32 % 2 * 4, 4);
            signed(scale(0) * factor * value, block[74 + i / 8] >> (i % 8) & 1 == 1)
        }
        GgmlType::IQ1_S => {
            let bits = half(34 + i / 32 * 2);
            let number =
                usize::from(block[2 + i / 8]) | usize::from(bits >> (i / 8 % 4 * 3) & 7) << 8;
            let delta = if bits >> 15 == 0 { 0.125 } else { -0.125 };
            let factor = 2.0 * f32::from(bits >> 12 & 7) + 1.0;
            scale(0) * factor * (IQ1.value(number, i) + delta)
        }
        GgmlType::IQ1_M => {
            let bits = block[32 + i / 16] >> (i / 8 % 2 * 4);
            let number = usize::from(block[i / 8]) | usize::from(bits & 7) << 8;
            let delta = if bits >> 3 & 1 == 0 { 0.125 } else { -0.125 };
            let scale = (0..4).map(|part| half(48 + 2 * part) >> 12 << (4 * part)).sum();
            let factor = half(48 + i / 64 * 2) >> (i / 16 % 4 * 3) & 7;
            f16(scale) * (2.0 * f32::from(factor) + 1.0) * (IQ1.value(number, i) + delta)
        }
        _ => panic!("the tests know no {kind}"),
    }
}

/// Value number `number` of those of `IQ4_NL`.
fn uneven(number: f32) -> f32 {
    let values = [
        -127.0, -104.0, -83.0, -65.0, -49.0, -35.0, -22.0, -10.0, 1.0, 13.0, 25.0, 38.0, 53.0,
        69.0, 89.0, 113.0,
    ];
    values[number as usize]
}

fn signed(value: f32, negative: bool) -> f32 {
    if negative { -value } else { value }
}

/// Whether value `i` of eight is negative, of which seven signs are given: their number is even.
fn even_sign(signs: u32, i: usize) -> bool {
    if i == 7 { signs.count_ones() % 2 == 1 } else { signs >> i & 1 == 1 }
}

/// A table of entries of several values, as the guest has it: a bit for each possible entry.
struct Table {
    bits: &'static [u8],
    digits: &'static [f32],
    values: u32,
    /// The numbers of all entries that there are.
    entries: OnceLock<Vec<usize>>,
}

static IQ2_XXS: Table = Table::of_eight(include_bytes!("../../guest/src/kernels/grids/iq2_xxs"));
static IQ2_XS: Table = Table::of_eight(include_bytes!("../../guest/src/kernels/grids/iq2_xs"));
static IQ2_S: Table = Table::of_eight(include_bytes!("../../guest/src/kernels/grids/iq2_s"));
static IQ1: Table =
    Table::new(include_bytes!("../../guest/src/kernels/grids/iq1"), &[-1.0, 0.0, 1.0], 8);
static IQ3_XXS: Table = Table::new(
    include_bytes!("../../guest/src/kernels/grids/iq3_xxs"),
    &[4.0, 12.0, 20.0, 28.0, 36.0, 44.0, 52.0, 62.0],
    4,
);
static IQ3_S: Table = Table::new(
    include_bytes!("../../guest/src/kernels/grids/iq3_s"),
    &[1.0, 3.0, 5.0, 7.0, 9.0, 11.0, 13.0, 15.0],
    4,
);

impl Table {
    const fn of_eight(bits: &'static [u8]) -> Self {
        Self::new(bits, &[8.0, 25.0, 43.0], 8)
    }

    const fn new(bits: &'static [u8], digits: &'static [f32], values: u32) -> Self {
        Self { bits, digits, values, entries: OnceLock::new() }
    }

    /// The value for weight `i` in entry `number`.
    fn value(&self, number: usize, i: usize) -> f32 {
        let entries = self.entries.get_or_init(|| {
            (0..8 * self.bits.len()).filter(|n| self.bits[n / 8] >> (n % 8) & 1 == 1).collect()
        });
        let count = self.digits.len();
        self.digits[entries[number] / count.pow(i as u32 % self.values) % count]
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
        GgmlType::MXFP4 => {
            // Values of root mean square 5.9 times a power of two.
            let power = (size / 5.9).log2().round() as i32 + (random.next() % 3) as i32 - 1;
            block[0] = (128 + power) as u8;
            return;
        }
        GgmlType::IQ1_M => {
            let scale = to_f16(size / 6.9 * (1.0 + 0.5 * random.uniform()));
            for part in 0..4 {
                let at = 49 + 2 * part;
                block[at] = block[at] & 15 | ((scale >> (4 * part) & 15) as u8) << 4;
            }
            return;
        }
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
        GgmlType::IQ4_NL => (69.0, 0, None),
        GgmlType::IQ4_XS => (1280.0, 0, None),
        GgmlType::TQ1_0 => (0.82, 52, None),
        GgmlType::TQ2_0 => (1.2, 64, None),
        GgmlType::IQ2_XXS | GgmlType::IQ2_XS | GgmlType::IQ2_S => (60.0, 0, None),
        GgmlType::IQ3_XXS => (150.0, 0, None),
        GgmlType::IQ3_S => (165.0, 0, None),
        GgmlType::IQ1_S => (6.9, 0, None),
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

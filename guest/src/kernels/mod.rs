//! Products of stored weights with floats.
//!
//! # The one order of a sum
//!
//! A row is a sequence of vectors of four weights. Vector `v` times its vector of `x` is
//! added to accumulator `v mod 4`, in order of `v`; at the end
//! `s = (a0 + a1) + (a2 + a3)` and the sum is `(s0 + s1) + (s2 + s3)`. Where the length is
//! no multiple of four, the last products are added to that one by one.
//!
//! Weights are first expanded to exactly the floats that ggml makes of them. One row at a
//! time in registers ([`Format::dot`]) and tiles of rows and columns ([`tile`]) both keep
//! to this, so that results do not depend on the number of columns.

mod activations;
mod bf16;
mod blocks;
mod columns;
mod dense;
mod f16;
mod f32;
mod heads;
mod product;
mod q2_k;
mod q3_k;
mod q4_0;
mod q4_1;
mod q4_k;
mod q5_0;
mod q5_1;
mod q5_k;
mod q6_k;
mod q8_0;
mod quantised;
mod superblock;
mod superblocks;
mod tile;

use self::activations::Form;
pub(crate) use self::activations::{Activations, Group, Super};
pub(crate) use self::blocks::Unpacked as UnpackedBlock;
use self::f16::from_halves;
pub(crate) use self::f16::{Half, to_halves};
pub(crate) use self::f32::dot;
pub(crate) use self::heads::{HEADS, mix, scores};
pub(crate) use self::superblocks::Unpacked;
use self::tile::multiply;

use polychord_abi::buffers::SCRATCH;
use polychord_abi::transformer::{ggml_type, status};

use crate::Status;
use crate::simd::*;

/// How weights of one type are stored.
trait Format {
    /// Expands a stored row to floats.
    fn expand(row: &[u8], out: &mut [f32]);
    /// The product of a stored row with `x`.
    fn dot(row: &[u8], x: &[f32]) -> f32;
    /// The form of activations for integer products; without one, activations stay floats.
    const FORM: Option<Form> = None;
    /// The product with activations in that form.
    fn multiply_integer(_w: &Matrix<'_>, _x: &mut Activations, _y: Output<'_>) {}
}

/// The types of stored weights that there is a kernel for: name, module, and weights and
/// bytes of a block.
macro_rules! kinds {
    ($($kind:ident $module:ident $weights:literal $bytes:expr;)*) => {
        /// A type of stored weights that there is a kernel for.
        #[derive(Clone, Copy, PartialEq, Eq)]
        #[allow(non_camel_case_types, reason = "these are ggml's names")]
        pub(crate) enum Kind {
            $($kind,)*
        }

        impl Kind {
            /// The kind with this number in ggml.
            pub(crate) fn new(number: u32) -> Result<Self, Status> {
                match number {
                    $(ggml_type::$kind => Ok(Self::$kind),)*
                    _ => Err(status::UNSUPPORTED_TYPE),
                }
            }

            fn form(self) -> Option<Form> {
                match self {
                    $(Self::$kind => <$module::$kind as Format>::FORM,)*
                }
            }

            /// Weights and bytes of a block, the least that can be stored.
            const fn block(self) -> (usize, usize) {
                match self {
                    $(Self::$kind => ($weights, $bytes),)*
                }
            }
        }

        impl Matrix<'_> {
            /// Expands one row.
            pub(crate) fn expand(&self, row: usize, out: &mut [f32]) {
                let stored = &self.bytes[row * self.row_bytes..][..self.row_bytes];
                match self.kind {
                    $(Kind::$kind => $module::$kind::expand(stored, out),)*
                }
            }

            fn multiply_integer(&self, x: &mut Activations, y: Output<'_>) {
                match self.kind {
                    $(Kind::$kind => $module::$kind::multiply_integer(self, x, y),)*
                }
            }

            /// The product with `x[n][cols]`.
            fn multiply(&self, x: &[f32], y: Output<'_>, scratch: &mut [f32]) {
                match self.kind {
                    $(Kind::$kind => self.multiply_as::<$module::$kind>(x, y, scratch),)*
                }
            }
        }
    };
}

kinds! {
    F32 f32 1 4;
    F16 f16 1 2;
    BF16 bf16 1 2;
    Q4_0 q4_0 32 q4_0::BYTES;
    Q4_1 q4_1 32 q4_1::BYTES;
    Q5_0 q5_0 32 q5_0::BYTES;
    Q5_1 q5_1 32 q5_1::BYTES;
    Q8_0 q8_0 32 q8_0::BYTES;
    Q2_K q2_k 256 q2_k::BYTES;
    Q3_K q3_k 256 q3_k::BYTES;
    Q4_K q4_k 256 q4_k::BYTES;
    Q5_K q5_k 256 q5_k::BYTES;
    Q6_K q6_k 256 q6_k::BYTES;
}

impl Kind {
    /// Bytes that `weights` in one row take.
    pub(crate) fn row_bytes(self, weights: usize) -> Result<usize, Status> {
        let (block, bytes) = self.block();
        if !weights.is_multiple_of(block) {
            return Err(status::BAD_SHAPE);
        }
        (weights / block).checked_mul(bytes).ok_or(status::BAD_SHAPE)
    }
}

/// Stored rows of equal length.
#[derive(Clone, Copy)]
pub(crate) struct Matrix<'a> {
    /// How they are stored.
    pub(crate) kind: Kind,
    /// Weights of a row.
    pub(crate) cols: usize,
    /// All rows, one after another.
    pub(crate) bytes: &'a [u8],
    /// Bytes of a row, not zero.
    pub(crate) row_bytes: usize,
}

/// Where the product of a matrix with some columns goes: that of row `r` and column `c` to
/// `c * stride + r`. A stride beyond the number of rows leaves room for those of another matrix.
pub(crate) struct Output<'a> {
    y: &'a mut [f32],
    stride: usize,
    columns: usize,
}

impl<'a> Output<'a> {
    /// All of `y`, for a whole number of columns.
    pub(crate) fn whole(y: &'a mut [f32], columns: usize) -> Self {
        let stride = y.len() / columns;
        Self { y, stride, columns }
    }

    /// All of `y` from a row on.
    pub(crate) fn from_row(y: &'a mut [f32], columns: usize, row: usize) -> Self {
        let stride = y.len() / columns;
        Self { y: &mut y[row..], stride, columns }
    }

    /// Four results of a row, for columns from `first` on as far as there are any.
    fn put(&mut self, row: usize, first: usize, results: v128) {
        for (column, result) in (first..self.columns).zip(lanes4(results)) {
            self.y[column * self.stride + row] = result;
        }
    }
}

/// What several matrices are multiplied with: rows of activations, quantized once for all
/// that want them so, if at all.
pub(crate) struct Input<'a> {
    x: &'a [f32],
    integers: Option<&'a mut Activations>,
    form: Option<Form>,
}

impl<'a> Input<'a> {
    /// With room for the quantized ones where products shall be integer products.
    pub(crate) fn new(x: &'a [f32], integers: Option<&'a mut Activations>) -> Self {
        Self { x, integers, form: None }
    }

    /// The product of a matrix with each column.
    pub(crate) fn multiply(&mut self, w: &Matrix<'_>, y: Output<'_>, scratch: &mut [f32]) {
        let (Some(integers), Some(form)) = (&mut self.integers, w.kind.form()) else {
            return w.multiply(self.x, y, scratch);
        };
        if self.form != Some(form) {
            integers.quantise(self.x, w.cols, form);
            self.form = Some(form);
        }
        w.multiply_integer(integers, y);
    }
}

impl Matrix<'_> {
    fn rows(&self) -> usize {
        self.bytes.len() / self.row_bytes
    }

    fn multiply_as<F: Format>(&self, x: &[f32], y: Output<'_>, scratch: &mut [f32]) {
        if y.columns == 1 {
            self.multiply_column::<F>(x, y.y);
        } else {
            self.multiply_columns::<F>(x, y, scratch);
        }
    }

    /// Multiplies each row with the only column.
    ///
    /// Not inlined: engines assign registers well in a small function, but in a large one
    /// they keep accumulators in memory, which costs half of the speed.
    #[inline(never)]
    fn multiply_column<F: Format>(&self, x: &[f32], y: &mut [f32]) {
        for (row, y) in self.bytes.chunks_exact(self.row_bytes).zip(y) {
            *y = F::dot(row, x);
        }
    }

    /// Expands some rows once, then multiplies them with every column.
    #[inline(never)]
    fn multiply_columns<F: Format>(&self, x: &[f32], y: Output<'_>, scratch: &mut [f32]) {
        let rows = self.rows();
        // Even, because tiles are two rows high.
        let height = (SCRATCH / self.cols).max(2) & !1;
        let stored = self.bytes.chunks(height * self.row_bytes);
        for (stored, first) in stored.zip((0..rows).step_by(height)) {
            let stored = stored.chunks_exact(self.row_bytes);
            let expanded = &mut scratch[..stored.len() * self.cols];
            for (row, out) in stored.zip(expanded.chunks_exact_mut(self.cols)) {
                F::expand(row, out);
            }
            multiply(expanded, x, self.cols, &mut y.y[first..], y.stride);
        }
    }
}

/// The end of the one order: four accumulators to a number.
#[inline(always)]
fn sum(accumulators: [v128; 4]) -> f32 {
    let [a, b, c, d] = accumulators;
    let [a, b, c, d] = lanes4(f32x4_add(f32x4_add(a, b), f32x4_add(c, d)));
    (a + b) + (c + d)
}

#[inline(always)]
fn lanes4(v: v128) -> [f32; 4] {
    [
        f32x4_extract_lane::<0>(v),
        f32x4_extract_lane::<1>(v),
        f32x4_extract_lane::<2>(v),
        f32x4_extract_lane::<3>(v),
    ]
}

/// `sum + a * b`, rounded twice.
#[inline(always)]
fn multiply_add(sum: v128, a: v128, b: v128) -> v128 {
    f32x4_add(sum, f32x4_mul(a, b))
}

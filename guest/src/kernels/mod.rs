//! Products of stored weights with floats.
//!
//! Weights are first expanded to exactly the floats that ggml makes of them. One row at a
//! time in registers ([`Format::dot`]) and tiles of rows and columns ([`tile`]) both keep
//! to one order of a sum ([`order`]), so that results do not depend on the number of columns.
//! With activations of 8 bits, types have blocks of 32 ([`blocks`]), superblocks of 256
//! ([`superblocks`]), or are decoded into these first ([`decoded`]).

mod activations;
mod ahead;
mod bf16;
mod blocks;
mod columns;
mod decoded;
mod dense;
mod f16;
mod f32;
mod grids;
mod groups;
mod halves;
mod heads;
mod iq1_m;
mod iq1_s;
mod iq2_s;
mod iq2_xs;
mod iq2_xxs;
mod iq3_s;
mod iq3_xxs;
mod iq4_nl;
mod iq4_xs;
mod mxfp4;
mod order;
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
mod q8_rows;
mod quantized;
mod rows;
mod superblock;
mod superblocks;
mod tile;
mod tq1_0;
mod tq2_0;

pub(crate) use self::activations::Activations;
use self::activations::Form;
pub(crate) use self::ahead::{set as touch_ahead, touch};
pub(crate) use self::f16::from_halves;
pub(crate) use self::f32::dot;
pub(crate) use self::halves::{Half, to_halves};
pub(crate) use self::heads::{HEADS, mix, scale_heads, scores};
pub(crate) use self::q8_rows::{Q8Block, from_q8, to_q8};
use self::rows::Format;
pub(crate) use self::rows::{Output, Rows};

use polychord_abi::transformer::{ggml_type, status};

use crate::Status;

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
                let Rows { bytes, row_bytes, .. } = self.rows;
                let stored = &bytes[row * row_bytes..][..row_bytes];
                match self.kind {
                    $(Kind::$kind => $module::$kind::expand(stored, out),)*
                }
            }

            fn multiply_integer(&self, x: &mut Activations, y: Output<'_>) {
                match self.kind {
                    $(Kind::$kind => $module::$kind::multiply_integer(&self.rows, x, y),)*
                }
            }

            /// The product with `x[n][cols]`.
            fn multiply(&self, x: &[f32], y: Output<'_>, scratch: &mut [f32]) {
                match self.kind {
                    $(Kind::$kind => self.rows.multiply::<$module::$kind>(x, y, scratch),)*
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
    IQ4_NL iq4_nl 32 iq4_nl::BYTES;
    IQ4_XS iq4_xs 256 iq4_xs::BYTES;
    MXFP4 mxfp4 32 mxfp4::BYTES;
    TQ1_0 tq1_0 256 tq1_0::BYTES;
    TQ2_0 tq2_0 256 tq2_0::BYTES;
    IQ3_S iq3_s 256 iq3_s::BYTES;
    IQ3_XXS iq3_xxs 256 iq3_xxs::BYTES;
    IQ2_S iq2_s 256 iq2_s::BYTES;
    IQ2_XS iq2_xs 256 iq2_xs::BYTES;
    IQ2_XXS iq2_xxs 256 iq2_xxs::BYTES;
    IQ1_S iq1_s 256 iq1_s::BYTES;
    IQ1_M iq1_m 256 iq1_m::BYTES;
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

/// A matrix of stored weights.
#[derive(Clone, Copy)]
pub(crate) struct Matrix<'a> {
    /// How they are stored.
    pub(crate) kind: Kind,
    /// The stored bytes.
    pub(crate) rows: Rows<'a>,
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
            integers.quantize(self.x, w.rows.cols, form);
            self.form = Some(form);
        }
        w.multiply_integer(integers, y);
    }
}

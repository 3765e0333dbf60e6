//! What a call has in common for all of its blocks.

use polychord_abi::transformer::feature;

use crate::math::Activation;
use crate::model::{BlockShape, Shape};
use crate::rope::Rope;

/// What one call has in common for all of its blocks.
pub(crate) struct Stage<'a> {
    pub(crate) shape: &'a Shape,
    pub(crate) ropes: &'a [Rope],
    pub(crate) position: usize,
    pub(crate) n: usize,
}

/// The function of a block's feed-forward part.
pub(crate) const fn activation(shape: &BlockShape) -> Activation {
    if shape.has(feature::GELU) {
        Activation::Gelu
    } else if shape.has(feature::RELU_SQUARED) {
        Activation::ReluSquared
    } else if shape.has(feature::CLAMPED_GATE) {
        Activation::Clamped
    } else {
        Activation::Silu
    }
}

//! Products, biases and norms of rows, with weights as they are stored.

use core::ops::Range;

use crate::host::Layers;
use crate::kernels::{Input, Output};
use crate::model::Stored;
use crate::{Status, math};

/// The product of some rows of a matrix with as many columns as `y` has room for.
pub(crate) fn product(
    stored: &Stored,
    layers: &Layers,
    rows: Range<usize>,
    x: &mut Input<'_>,
    y: &mut [f32],
    scratch: &mut [f32],
) -> Result<(), Status> {
    if !rows.is_empty() {
        let columns = y.len() / rows.len();
        stored.each_part(layers, rows, |part, first| {
            x.multiply(part, Output::from_row(y, columns, first), scratch);
        })?;
    }
    Ok(())
}

/// Adds some elements of a row of biases to as many columns as `y` has.
pub(crate) fn add_bias(
    stored: &Stored,
    layers: &Layers,
    row: usize,
    part: Range<usize>,
    y: &mut [f32],
    scratch: &mut [f32],
) -> Result<(), Status> {
    if !part.is_empty() {
        let step = part.len();
        let bias = &mut scratch[..stored.cols];
        stored.expand(layers, row, bias)?;
        let bias = &bias[part];
        y.chunks_exact_mut(step).for_each(|column| math::add(column, bias));
    }
    Ok(())
}

/// Normalizes rows to their mean and variance, with weights and a bias; `scratch` has room for two
/// rows.
pub(crate) fn norm_with_bias(
    (weight, bias): (&Stored, &Stored),
    layers: &Layers,
    rows: &mut [f32],
    scratch: &mut [f32],
    epsilon: f32,
) -> Result<(), Status> {
    norm_rows(weight, layers, rows, &mut scratch[..weight.cols], epsilon, true)?;
    add_bias(bias, layers, 0, 0..bias.cols, rows, scratch)
}

/// Normalizes rows; the stored weights are first copied to `weight`, as their address need
/// not be aligned.
pub(crate) fn norm_rows(
    stored: &Stored,
    layers: &Layers,
    rows: &mut [f32],
    weight: &mut [f32],
    epsilon: f32,
    is_layer_norm: bool,
) -> Result<(), Status> {
    stored.expand(layers, 0, weight)?;
    let norm = if is_layer_norm { math::layer_norm } else { math::rms_norm };
    rows.chunks_exact_mut(weight.len()).for_each(|row| norm(row, weight, epsilon));
    Ok(())
}

//! Convolutions over the last positions, channel by channel, and the block that is one between two
//! gates.

use core::ops::Range;

use polychord_abi::transformer::{MOST_TAPS, role};

use crate::buffers::Buffers;
use crate::host::Layers;
use crate::kept::State;
use crate::kernels::Input;
use crate::model::{Block, Stored};
use crate::products::product;
use crate::ranks::Stack;
use crate::stage::Stage;
use crate::{Status, math};

/// What a convolution gets, in the buffer `values`, and what its result is multiplied by, in `keys`.
///
/// Each rank computes some channels: a channel needs no other.
pub(crate) fn enter(
    stage: &Stage<'_>,
    block: &Block,
    layers: &Layers,
    buffers: &mut Buffers,
) -> Result<(), Status> {
    let (n, dim) = (stage.n, stage.shape.dim);
    let own = stage.shape.share.own(dim);
    let len = n * own.len();
    let (before, behind) = (&mut buffers.queries[..len], &mut buffers.keys[..len]);
    let values = &mut buffers.values[..len];
    let project = block.get(role::CONV_IN)?;
    let mut normed = Input::new(&buffers.normed[..n * dim], buffers.integers.as_mut());
    for (part, to) in [&mut *before, &mut *behind, &mut *values].into_iter().enumerate() {
        let rows = part * dim + own.start..part * dim + own.end;
        product(project, layers, rows, &mut normed, to, buffers.scratch)?;
    }
    math::multiply(values, before);
    Ok(())
}

/// Mixes positions: from the buffer `values` to `mixed`.
pub(crate) fn mix(
    stage: &Stage<'_>,
    block: &Block,
    layers: &Layers,
    state: &mut State,
    buffers: &mut Buffers,
) -> Result<(), Status> {
    let own = stage.shape.share.own(stage.shape.dim);
    let len = stage.n * own.len();
    let past = &mut state.taps[..own.len() * (block.shape.taps - 1)];
    let (values, mixed) = (&buffers.values[..len], &mut buffers.mixed[..len]);
    convolve(block.get(role::CONV)?, layers, own, past, values, mixed)
}

/// The result, in the buffer `residual`.
pub(crate) fn leave(
    stage: &Stage<'_>,
    block: &Block,
    layers: &Layers,
    buffers: &mut Buffers,
) -> Result<Stack, Status> {
    let (n, dim, share) = (stage.n, stage.shape.dim, stage.shape.share);
    let all = share.rows(dim, n);
    let len = n * share.own(dim).len();
    let mixed = &mut buffers.mixed[..len];
    math::multiply(mixed, &buffers.keys[..len]);
    let stacked = &mut buffers.attended[..n * dim];
    all.own(stacked).copy_from_slice(mixed);
    let mixed = all.gather_rows(stacked, buffers.queries)?;
    let mut mixed = Input::new(mixed, buffers.integers.as_mut());
    let (residual, scratch) = (&mut *buffers.residual, &mut *buffers.scratch);
    stage.project_back(block.get(role::CONV_OUT)?, None, layers, &mut mixed, residual, scratch)
}

/// Convolves rows of as many channels, each with a row of weights, and remembers what the next call
/// needs of them. Sums begin with the oldest position.
pub(crate) fn convolve(
    weights: &Stored,
    layers: &Layers,
    channels: Range<usize>,
    past: &mut [f32],
    x: &[f32],
    y: &mut [f32],
) -> Result<(), Status> {
    let (width, taps) = (channels.len(), weights.cols);
    if width == 0 {
        return Ok(());
    }
    let mut past = past.chunks_exact_mut(taps - 1).enumerate();
    let mut room = [0.0; MOST_TAPS as usize];
    weights.each_part(layers, channels, |part, _| {
        for row in 0..part.rows.bytes.len() / part.rows.row_bytes {
            let Some((channel, past)) = past.next() else { return };
            let weights = &mut room[..taps];
            part.expand(row, weights);
            let columns = x[channel..].iter().step_by(width);
            for (x, y) in columns.zip(y[channel..].iter_mut().step_by(width)) {
                let sum = past.iter().zip(&*weights).fold(0.0, |sum, (x, w)| sum + x * w);
                *y = sum + x * weights[taps - 1];
                past.copy_within(1.., 0);
                past[taps - 2] = *x;
            }
        }
    })
}

//! What each block gets of each token beside the hidden state: a vector that is made of the token
//! and of its embedding once, for all blocks, and that a gate lets in behind the feed-forward part.

use polychord_abi::transformer::role;

use crate::buffers::Buffers;
use crate::host::Layers;
use crate::kernels::Input;
use crate::math::Activation;
use crate::model::{Block, Globals, Shape};
use crate::products::product;
use crate::ranks::Stack;
use crate::stage::Stage;
use crate::{Status, math};

/// Makes the vectors of all blocks for the first `n` tokens, whose embedding is the hidden state.
pub(crate) fn prepare(
    shape: &Shape,
    globals: &Globals,
    n: usize,
    buffers: &mut Buffers,
) -> Result<(), Status> {
    let (width, dim) = (shape.carried, shape.dim);
    let layers = Layers::new();
    let (own, all) = (shape.share.own(width), shape.share.rows(width, n));
    let mut hidden = Input::new(&buffers.hidden[..n * dim], buffers.integers.as_mut());
    let stacked = &mut buffers.mixed[..n * width];
    let weights = globals.get(role::INPUT_PROJ)?;
    product(weights, &layers, own, &mut hidden, all.own(stacked), buffers.scratch)?;
    all.gather(stacked)?;
    let carried = &mut buffers.carried[..n * width];
    all.for_each(|from, to| carried[to].copy_from_slice(&stacked[from]));
    math::scale(carried, 1.0 / libm::sqrtf(dim as f32));
    let norm = &mut buffers.scratch[..shape.layer_input];
    globals.get(role::INPUT_PROJ_NORM)?.expand(&layers, 0, norm)?;
    for part in carried.chunks_exact_mut(shape.layer_input) {
        math::rms_norm(part, norm, shape.epsilon);
    }
    let table = globals.get(role::INPUT_EMBD)?;
    let root = libm::sqrtf(shape.layer_input as f32);
    for (row, token) in carried.chunks_exact_mut(width).zip(&*buffers.tokens) {
        let its = &mut buffers.other[..width];
        table.expand(&layers, *token as usize, its)?;
        math::add_scaled(row, root, its);
    }
    math::scale(carried, core::f32::consts::FRAC_1_SQRT_2);
    Ok(())
}

/// What a block lets in of its vectors, as wide as the hidden state, in the buffer `residual`.
pub(crate) fn run(
    stage: &Stage<'_>,
    block: &Block,
    layers: &Layers,
    buffers: &mut Buffers,
) -> Result<Stack, Status> {
    let (n, width, share) = (stage.n, stage.shape.layer_input, stage.shape.share);
    let (own, all) = (share.own(width), share.rows(width, n));
    let mut hidden = Input::new(&buffers.hidden[..n * stage.shape.dim], buffers.integers.as_mut());
    let stacked = &mut buffers.mixed[..n * width];
    let gates = all.own(stacked);
    let weights = block.get(role::INPUT_GATE)?;
    product(weights, layers, own.clone(), &mut hidden, gates, buffers.scratch)?;
    if !own.is_empty() {
        let inputs = buffers.carried.chunks_exact(stage.shape.carried);
        for (gates, inputs) in gates.chunks_exact_mut(own.len()).zip(inputs) {
            let its = &inputs[block.shape.number * width..][..width];
            Activation::Gelu.gated(gates, &its[own.clone()]);
        }
    }
    let gated = all.gather_rows(stacked, buffers.other)?;
    let mut gated = Input::new(gated, buffers.integers.as_mut());
    let (residual, scratch) = (&mut *buffers.residual, &mut *buffers.scratch);
    stage.project_back(block.get(role::INPUT_BACK)?, None, layers, &mut gated, residual, scratch)
}

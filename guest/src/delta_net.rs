//! Gated delta nets: each head has a matrix that maps keys to values. A position first lets it fade,
//! then corrects what it gives for the position's key, and then asks it with the query.
//!
//! Each rank keeps the matrices of its own heads. What goes into the convolution is gathered, since
//! key heads are shared by heads of several ranks.

use polychord_abi::transformer::{feature, role};

use crate::buffers::Buffers;
use crate::host::Layers;
use crate::kept::State;
use crate::kernels::{self, Input};
use crate::math::Activation;
use crate::model::{Block, BlockShape};
use crate::products::{norm_rows, product};
use crate::ranks::Stack;
use crate::short_conv::convolve;
use crate::stage::Stage;
use crate::{Status, math};

/// What the convolution gets, in the buffer `queries`, and rates, in `values`.
pub(crate) fn enter(
    stage: &Stage<'_>,
    block: &Block,
    layers: &Layers,
    buffers: &mut Buffers,
) -> Result<(), Status> {
    project(stage, block, layers, buffers)?;
    rates(stage, block, layers, buffers)
}

/// Mixes positions: what heads give for them is in this rank's part of the buffer `attended`.
pub(crate) fn mix(
    stage: &Stage<'_>,
    block: &Block,
    layers: &Layers,
    state: &mut State,
    buffers: &mut Buffers,
) -> Result<(), Status> {
    let (its, n) = (&block.shape, stage.n);
    convolve_rows(stage, block, layers, state, buffers)?;
    let all_heads = stage.shape.share.heads(its.heads, its.head_dim, n);
    let given = all_heads.own(&mut buffers.attended[..n * its.query_len]);
    let heads = its.own_heads().len();
    if heads != 0 {
        let channels = buffers.mixed.chunks_exact(its.channels());
        let rates = buffers.values.chunks_exact(2 * heads);
        let given = given.chunks_exact_mut(heads * its.head_dim);
        for (given, (channels, rates)) in given.zip(channels.zip(rates)) {
            step(its, state.matrices, channels, rates, given);
        }
    }
    Ok(())
}

/// The result, in the buffer `residual`.
pub(crate) fn leave(
    stage: &Stage<'_>,
    block: &Block,
    layers: &Layers,
    buffers: &mut Buffers,
) -> Result<Stack, Status> {
    let (its, n, share) = (&block.shape, stage.n, stage.shape.share);
    let (dim, own) = (its.head_dim, its.own_heads());
    let all_heads = share.heads(its.heads, dim, n);
    let attended = &mut buffers.attended[..n * its.query_len];
    let given = all_heads.own(attended);
    let width = own.len() * dim;
    if width != 0 {
        let weight = &mut buffers.scratch[..dim];
        let epsilon = stage.shape.epsilon;
        norm_rows(block.get(role::DELTA_NORM)?, layers, given, weight, epsilon, false)?;
        let gates = &mut buffers.keys[..n * width];
        let rows = own.start * dim..own.end * dim;
        let normed = &buffers.normed[..n * stage.shape.dim];
        let mut normed = Input::new(normed, buffers.integers.as_mut());
        let weights = block.get(role::DELTA_GATE)?;
        product(weights, layers, rows, &mut normed, gates, buffers.scratch)?;
        Activation::Silu.gated(gates, given);
        given.copy_from_slice(gates);
    }
    let given = all_heads.gather_rows(attended, buffers.queries)?;
    let mut given = Input::new(given, buffers.integers.as_mut());
    let (residual, scratch) = (&mut *buffers.residual, &mut *buffers.scratch);
    stage.project_back(block.get(role::DELTA_OUT)?, None, layers, &mut given, residual, scratch)
}

/// Queries, keys and values of all heads, in the buffer `queries`.
fn project(
    stage: &Stage<'_>,
    block: &Block,
    layers: &Layers,
    buffers: &mut Buffers,
) -> Result<(), Status> {
    let (its, n, share) = (&block.shape, stage.n, stage.shape.share);
    let width = its.channels();
    let (own, all) = (share.own(width), share.rows(width, n));
    let mut normed = Input::new(&buffers.normed[..n * stage.shape.dim], buffers.integers.as_mut());
    let stacked = &mut buffers.attended[..n * width];
    let weights = block.get(role::DELTA_IN)?;
    product(weights, layers, own, &mut normed, all.own(stacked), buffers.scratch)?;
    all.gather(stacked)?;
    let rows = &mut buffers.queries[..n * width];
    all.for_each(|from, to| rows[to].copy_from_slice(&stacked[from]));
    Ok(())
}

/// Queries, keys and values of all heads, convolved: from the buffer `queries` to `mixed`.
fn convolve_rows(
    stage: &Stage<'_>,
    block: &Block,
    layers: &Layers,
    state: &mut State,
    buffers: &mut Buffers,
) -> Result<(), Status> {
    let its = &block.shape;
    let width = its.channels();
    let rows = &buffers.queries[..stage.n * width];
    let mixed = &mut buffers.mixed[..stage.n * width];
    convolve(block.get(role::DELTA_CONV)?, layers, 0..width, state.taps, rows, mixed)?;
    Activation::Silu.plain(mixed);
    let keys = its.kv_heads * its.head_dim;
    let root = 1.0 / libm::sqrtf(its.head_dim as f32);
    for row in mixed.chunks_exact_mut(width) {
        for (number, head) in row[..2 * keys].chunks_exact_mut(its.head_dim).enumerate() {
            let square = kernels::dot(head, head) + stage.shape.epsilon;
            math::scale(head, 1.0 / libm::sqrtf(square));
            if number < its.kv_heads {
                math::scale(head, root);
            }
        }
    }
    Ok(())
}

/// For each position and head of this rank, how much is written, and how much is kept of what was
/// there: in the buffer `values`, `[n][heads][2]`.
fn rates(
    stage: &Stage<'_>,
    block: &Block,
    layers: &Layers,
    buffers: &mut Buffers,
) -> Result<(), Status> {
    let (its, n) = (&block.shape, stage.n);
    let heads = its.heads;
    let mut normed = Input::new(&buffers.normed[..n * stage.shape.dim], buffers.integers.as_mut());
    let scratch = &mut *buffers.scratch;
    // Of all heads: they are few.
    let products = &mut buffers.keys[..n * 2 * heads];
    if its.has(feature::FUSED_RATES) {
        let weights = block.get(role::DELTA_RATES)?;
        product(weights, layers, 0..2 * heads, &mut normed, products, scratch)?;
    } else {
        let (write, forget) = products.split_at_mut(n * heads);
        product(block.get(role::DELTA_WRITE)?, layers, 0..heads, &mut normed, write, scratch)?;
        product(block.get(role::DELTA_FORGET)?, layers, 0..heads, &mut normed, forget, scratch)?;
    }
    let (bias, decay) = scratch[..2 * heads].split_at_mut(heads);
    block.get(role::DELTA_BIAS)?.expand(layers, 0, bias)?;
    block.get(role::DELTA_DECAY)?.expand(layers, 0, decay)?;
    let own = its.own_heads();
    let pairs = buffers.values.as_chunks_mut::<2>().0.iter_mut();
    let places = (0..n).flat_map(|row| own.clone().map(move |head| (row, head)));
    for ([write, keep], (row, head)) in pairs.zip(places) {
        let (at, behind) = if its.has(feature::FUSED_RATES) {
            // By key head: what its heads write, and then what they forget.
            let group = heads / its.kv_heads;
            (row * 2 * heads + head / group * 2 * group + head % group, group)
        } else {
            (row * heads + head, n * heads)
        };
        *write = math::logistic_of(products[at]);
        *keep = math::decay(products[at + behind] + bias[head], decay[head]);
    }
    Ok(())
}

/// One position of all heads of this rank.
fn step(
    shape: &BlockShape,
    matrices: &mut [f32],
    channels: &[f32],
    rates: &[f32],
    given: &mut [f32],
) {
    let dim = shape.head_dim;
    let (queries, rest) = channels.split_at(shape.kv_heads * dim);
    let (keys, values) = rest.split_at(shape.kv_heads * dim);
    let heads = matrices.chunks_exact_mut(dim * dim).zip(rates.as_chunks::<2>().0);
    let heads = heads.zip(given.chunks_exact_mut(dim));
    for (head, ((matrix, [write, keep]), given)) in shape.own_heads().zip(heads) {
        let key_head = if shape.has(feature::KEY_HEADS_IN_TURN) {
            head % shape.kv_heads
        } else {
            head / (shape.heads / shape.kv_heads)
        };
        let query = &queries[key_head * dim..][..dim];
        let key = &keys[key_head * dim..][..dim];
        let values = &values[head * dim..][..dim];
        for ((row, value), given) in matrix.chunks_exact_mut(dim).zip(values).zip(given) {
            math::scale(row, *keep);
            let correction = write * (value - kernels::dot(row, key));
            math::add_scaled(row, correction, key);
            *given = kernels::dot(row, query);
        }
    }
}

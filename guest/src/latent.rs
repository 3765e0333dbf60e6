//! Attention whose keys and values of all heads are products of one short vector (MLA).
//!
//! The cache has this vector and the rotated part of keys, as one row for all heads. A head's
//! matrix of keys is multiplied with its query in place of each key, and its matrix of values with
//! what attention gave in place of each value.

use core::ops::Range;

use polychord_abi::transformer::{feature, role};

use crate::attention::{Cache, ROWS, Rows, Work, heat};
use crate::buffers::Buffers;
use crate::host::Layers;
use crate::kernels::Input;
use crate::model::{Block, BlockShape};
use crate::products::{norm_rows, product};
use crate::ranks::Stack;
use crate::stage::Stage;
use crate::{Status, math};

/// Keys, and queries as wide as these, neither of them rotated: in the buffers of their names.
pub(crate) fn enter(
    stage: &Stage<'_>,
    block: &Block,
    layers: &Layers,
    buffers: &mut Buffers,
) -> Result<(), Status> {
    project_keys(stage, block, layers, buffers)?;
    project_queries(stage, block, layers, buffers)?;
    match block.shape.own_heads().is_empty() {
        true => Ok(()),
        false => absorb(stage, block, layers, buffers),
    }
}

/// Attends, some rows at a time, as keys go to the cache: to the buffer `attended`.
pub(crate) fn mix(stage: &Stage<'_>, block: &Block, cache: &mut Cache, buffers: &mut Buffers) {
    let (its, n, dim) = (&block.shape, stage.n, block.shape.head_dim);
    let width = its.own_heads().len() * dim;
    let queries = buffers.queries[..n * width].chunks_mut(ROWS * width);
    let attended = buffers.attended[..n * width].chunks_mut(ROWS * width);
    let keys = buffers.keys[..n * dim].chunks_mut(ROWS * dim);
    let mut work = Work { scores: buffers.scores, room: buffers.scratch, touch: false };
    let rows = (0..n).step_by(ROWS).zip(queries.zip(keys.zip(attended)));
    for (first, (queries, (keys, attended))) in rows {
        let new = queries.chunks_exact_mut(width).zip(keys.chunks_exact_mut(dim));
        for (row, (queries, keys)) in (first..n).zip(new) {
            let position = stage.position + row;
            rotate(stage, its, row, &mut keys[its.latent_rank..]);
            for query in queries.chunks_exact_mut(dim) {
                rotate(stage, its, row, &mut query[its.latent_rank..]);
            }
            heat(its, position, queries);
            cache.put(its, position, keys, &[]);
        }
        let positions = stage.position + first..stage.position + n.min(first + ROWS);
        let rows = Rows { positions, end: stage.position + n, queries, sinks: None };
        cache.attend(its, &rows, &mut work, attended);
    }
}

/// The result, in the buffer `residual`.
pub(crate) fn leave(
    stage: &Stage<'_>,
    block: &Block,
    layers: &Layers,
    buffers: &mut Buffers,
) -> Result<Stack, Status> {
    let (its, n) = (&block.shape, stage.n);
    let (own, dim) = (its.own_heads(), its.head_dim);
    let width = own.len() * dim;
    let all = stage.shape.share.heads(its.heads, its.value_dim, n);
    let stacked = &mut buffers.queries[..n * its.heads * its.value_dim];
    let given = all.own(stacked);
    for (number, head) in own.clone().enumerate() {
        let x = &mut buffers.other[..n * its.latent_rank];
        for (x, attended) in
            x.chunks_exact_mut(its.latent_rank).zip(buffers.attended.chunks_exact(width))
        {
            x.copy_from_slice(&attended[number * dim..][..its.latent_rank]);
        }
        let y = &mut buffers.mixed[..n * its.value_dim];
        let (weights, rows) = value_rows(block, head)?;
        let mut x = Input::new(x, buffers.integers.as_mut());
        product(weights, layers, rows, &mut x, y, buffers.scratch)?;
        let to = given.chunks_exact_mut(own.len() * its.value_dim);
        for (to, y) in to.zip(y.chunks_exact(its.value_dim)) {
            to[number * its.value_dim..][..its.value_dim].copy_from_slice(y);
        }
    }
    let given = all.gather_rows(stacked, buffers.attended)?;
    let mut given = Input::new(given, buffers.integers.as_mut());
    let (residual, scratch) = (&mut *buffers.residual, &mut *buffers.scratch);
    stage.project_back(block.get(role::LATENT_OUT)?, None, layers, &mut given, residual, scratch)
}

/// The short vector, normalized, and the part of keys that is to be rotated, in the buffer `keys`.
fn project_keys(
    stage: &Stage<'_>,
    block: &Block,
    layers: &Layers,
    buffers: &mut Buffers,
) -> Result<(), Status> {
    let (its, n, share) = (&block.shape, stage.n, stage.shape.share);
    let dim = its.head_dim;
    let mut normed = Input::new(&buffers.normed[..n * stage.shape.dim], buffers.integers.as_mut());
    let all = share.rows(dim, n);
    let stacked = &mut buffers.values[..n * dim];
    let weights = block.get(role::LATENT_KV_A)?;
    product(weights, layers, share.own(dim), &mut normed, all.own(stacked), buffers.scratch)?;
    all.gather(stacked)?;
    let keys = &mut buffers.keys[..n * dim];
    all.for_each(|from, to| keys[to].copy_from_slice(&stacked[from]));
    let weight = &mut buffers.scratch[..its.latent_rank];
    block.get(role::LATENT_KV_NORM)?.expand(layers, 0, weight)?;
    for key in keys.chunks_exact_mut(dim) {
        math::rms_norm(&mut key[..its.latent_rank], weight, stage.shape.epsilon);
    }
    Ok(())
}

/// Queries of this rank's heads, not rotated, in the buffer `mixed`.
fn project_queries(
    stage: &Stage<'_>,
    block: &Block,
    layers: &Layers,
    buffers: &mut Buffers,
) -> Result<(), Status> {
    let (its, n, share) = (&block.shape, stage.n, stage.shape.share);
    let width = its.plain_dim + its.turned_dim();
    let own = its.own_heads();
    let rows = own.start * width..own.end * width;
    let (normed, scratch) = (&buffers.normed[..n * stage.shape.dim], &mut *buffers.scratch);
    let mut normed = Input::new(normed, buffers.integers.as_mut());
    if !its.has(feature::LOW_RANK_QUERIES) {
        let to = &mut buffers.mixed[..n * rows.len()];
        return product(block.get(role::LATENT_Q)?, layers, rows, &mut normed, to, scratch);
    }
    let rank = its.query_rank;
    let all = share.rows(rank, n);
    let stacked = &mut buffers.mixed[..n * rank];
    let weights = block.get(role::LATENT_Q_A)?;
    product(weights, layers, share.own(rank), &mut normed, all.own(stacked), scratch)?;
    all.gather(stacked)?;
    let short = &mut buffers.other[..n * rank];
    all.for_each(|from, to| short[to].copy_from_slice(&stacked[from]));
    let norm = block.get(role::LATENT_Q_NORM)?;
    norm_rows(norm, layers, short, &mut scratch[..rank], stage.shape.epsilon, false)?;
    let mut short = Input::new(short, buffers.integers.as_mut());
    let to = &mut buffers.mixed[..n * rows.len()];
    product(block.get(role::LATENT_Q_B)?, layers, rows, &mut short, to, scratch)
}

/// Makes queries as wide as the rows of the cache: from the buffer `mixed` to `queries`.
fn absorb(
    stage: &Stage<'_>,
    block: &Block,
    layers: &Layers,
    buffers: &mut Buffers,
) -> Result<(), Status> {
    let (its, n) = (&block.shape, stage.n);
    let (dim, plain, rank) = (its.head_dim, its.plain_dim, its.latent_rank);
    let (own, from_dim) = (its.own_heads(), its.plain_dim + its.turned_dim());
    let from = &buffers.mixed[..n * own.len() * from_dim];
    let to = &mut buffers.queries[..n * own.len() * dim];
    for (number, head) in own.clone().enumerate() {
        let rows = |row: usize| (row * own.len() + number) * from_dim;
        let to_rows = |row: usize| (row * own.len() + number) * dim;
        for row in 0..n {
            let turned = &mut to[to_rows(row) + rank..][..dim - rank];
            turned.copy_from_slice(&from[rows(row) + plain..][..dim - rank]);
        }
        if its.has(feature::FUSED_LATENT) {
            // The matrix as it is for keys: the sum of its rows, each times an element of the query.
            (0..n).for_each(|row| to[to_rows(row)..][..rank].fill(0.0));
            let first = head * (plain + its.value_dim);
            let weight = &mut buffers.scratch[..rank];
            for element in 0..plain {
                block.get(role::LATENT_KV_B)?.expand(layers, first + element, weight)?;
                for row in 0..n {
                    let by = from[rows(row) + element];
                    math::add_scaled(&mut to[to_rows(row)..][..rank], by, weight);
                }
            }
            continue;
        }
        let x = &mut buffers.other[..n * plain];
        for (row, x) in x.chunks_exact_mut(plain).enumerate() {
            x.copy_from_slice(&from[rows(row)..][..plain]);
        }
        let y = &mut buffers.values[..n * rank];
        let mut x = Input::new(x, buffers.integers.as_mut());
        let weights = block.get(role::LATENT_K_B)?;
        product(weights, layers, head * rank..(head + 1) * rank, &mut x, y, buffers.scratch)?;
        for (row, y) in y.chunks_exact(rank).enumerate() {
            to[to_rows(row)..][..rank].copy_from_slice(y);
        }
    }
    Ok(())
}

/// The rows that make the values of a head.
fn value_rows(block: &Block, head: usize) -> Result<(&crate::model::Stored, Range<usize>), Status> {
    let its = &block.shape;
    let (role, first) = if its.has(feature::FUSED_LATENT) {
        (role::LATENT_KV_B, head * (its.plain_dim + its.value_dim) + its.plain_dim)
    } else {
        (role::LATENT_V_B, head * its.value_dim)
    };
    Ok((block.get(role)?, first..first + its.value_dim))
}

/// Rotates one vector of row `row` of the batch.
fn rotate(stage: &Stage<'_>, shape: &BlockShape, row: usize, vector: &mut [f32]) {
    if let Some(rope) = shape.rope.and_then(|rope| stage.ropes.get(rope)) {
        rope.rotate(row, vector, shape.turned_dim());
    }
}

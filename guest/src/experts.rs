//! Feed-forward parts that are divided into experts, of which each token chooses some.
//!
//! What a token gets depends neither on the batch nor on the rank: its experts are chosen from
//! products that each rank computes in full, of equal ones the first; their results are added in
//! the order in which they were chosen. Tokens that have chosen the same expert are computed
//! together, so that its weights are read once.

use core::ops::Range;

use polychord_abi::transformer::{feature, gating, role};

use crate::buffers::{Buffers, Choices};
use crate::host::Layers;
use crate::kernels::{self, Input};
use crate::model::{Block, BlockShape};
use crate::products::{add_bias, product};
use crate::ranks::Stack;
use crate::stage::{Stage, activation};
use crate::{Status, math};

/// The block whose experts are computed some at a time.
#[derive(Clone, Copy)]
pub(crate) struct Routed {
    /// Its index here.
    pub(crate) block: usize,
    /// How many rows have chosen.
    pub(crate) n: usize,
    /// How many choices are computed, in their order.
    pub(crate) done: usize,
}

/// Chooses the experts of each normalized row.
pub(crate) fn choose_all(
    stage: &Stage<'_>,
    block: &Block,
    layers: &Layers,
    buffers: &mut Buffers,
) -> Result<(), Status> {
    route(stage, block, layers, buffers)?;
    let its = &block.shape;
    for row in 0..stage.n {
        let routes = &mut buffers.experts.routes[row * its.experts..][..its.experts];
        let choices = row * its.experts_used..(row + 1) * its.experts_used;
        let chosen = &mut buffers.experts.chosen[choices.clone()];
        let choice_bias = match block.find(role::CHOICE_BIAS) {
            Some(bias) => {
                let to = &mut buffers.scratch[..its.experts];
                bias.expand(layers, 0, to)?;
                Some(&*to)
            }
            None => None,
        };
        choose(its, routes, choice_bias, chosen, &mut buffers.experts.weights[choices]);
    }
    Ok(())
}

/// Orders the choices by their experts, and the normalized rows by the choices.
pub(crate) fn line_up(stage: &Stage<'_>, shape: &BlockShape, buffers: &mut Buffers) {
    let dim = stage.shape.dim;
    let Choices { chosen, weights, order, rows, .. } = &mut buffers.experts;
    let order = &mut order[..stage.n * shape.experts_used];
    sort(shape.experts, &chosen[..order.len()], order);
    for (row, choice) in rows.chunks_exact_mut(dim).zip(&*order) {
        let from = *choice as usize / shape.experts_used * dim;
        row.copy_from_slice(&buffers.normed[from..from + dim]);
        if shape.has(feature::WEIGHED_INPUT) {
            math::scale(row, weights[*choice as usize]);
        }
    }
}

/// Where the choices of experts below `end` stop, in their order.
pub(crate) fn places_below(end: usize, choices: usize, buffers: &Buffers) -> usize {
    let Choices { chosen, order, .. } = &buffers.experts;
    order[..choices].partition_point(|choice| (chosen[*choice as usize] as usize) < end)
}

/// Adds what the experts gave, all of which have computed; the sum is in the buffer `residual`.
pub(crate) fn combine(
    stage: &Stage<'_>,
    block: &Block,
    layers: &Layers,
    buffers: &mut Buffers,
) -> Result<Stack, Status> {
    sum(stage, &block.shape, buffers);
    if block.shape.has(feature::SHARED_EXPERT) {
        add_shared(stage, block, layers, buffers)?;
    }
    // In rows already: as if one rank had computed it.
    Ok(stage.shape.share.whole(stage.shape.dim, stage.n))
}

/// The products that experts are chosen by.
fn route(
    stage: &Stage<'_>,
    block: &Block,
    layers: &Layers,
    buffers: &mut Buffers,
) -> Result<(), Status> {
    let experts = block.shape.experts;
    let normed = &buffers.normed[..stage.n * stage.shape.dim];
    let routes = &mut buffers.experts.routes[..stage.n * experts];
    // Never of 8 bits: a small error here chooses another expert.
    let mut normed = Input::new(normed, None);
    let scratch = &mut *buffers.scratch;
    product(block.get(role::ROUTER)?, layers, 0..experts, &mut normed, routes, scratch)?;
    match block.find(role::ROUTER_BIAS) {
        Some(bias) => add_bias(bias, layers, 0, 0..experts, routes, scratch),
        None => Ok(()),
    }
}

/// Chooses the experts of one token, the best one first, and weighs them.
fn choose(
    shape: &BlockShape,
    routes: &mut [f32],
    bias: Option<&[f32]>,
    chosen: &mut [u32],
    weights: &mut [f32],
) {
    match shape.gating {
        gating::SOFTMAX => {
            let sum = math::softmax(routes, 1.0);
            routes.iter_mut().for_each(|route| *route /= sum);
        }
        gating::SIGMOID => math::logistic(routes),
        _ => {}
    }
    let score = |expert: usize| bias.map_or(routes[expert], |bias| routes[expert] + bias[expert]);
    let groups = best_groups(shape, score);
    let group_len = shape.experts / shape.expert_groups.max(1);
    for (slot, weight) in weights.iter_mut().enumerate() {
        let (before, rest) = chosen.split_at_mut(slot);
        let mut best: Option<(u32, f32)> = None;
        for (index, expert) in (0..shape.experts).zip(0..) {
            if groups >> (index / group_len) & 1 == 0 {
                continue;
            }
            let score = score(index);
            let is_better = best.is_none_or(|(_, highest)| score > highest);
            if is_better && !before.contains(&expert) {
                best = Some((expert, score));
            }
        }
        let expert = best.map_or(0, |(expert, _)| expert);
        rest.iter_mut().take(1).for_each(|it| *it = expert);
        *weight = routes[expert as usize];
    }
    match shape.gating {
        gating::SOFTMAX_OF_CHOSEN => {
            let sum = math::softmax(weights, 1.0);
            weights.iter_mut().for_each(|weight| *weight /= sum);
        }
        gating::SIGMOID_OF_CHOSEN => math::logistic(weights),
        _ => {}
    }
    if shape.has(feature::EXPERT_RENORM) {
        let sum = weights.iter().fold(0.0, |sum, weight| sum + weight);
        // As llama.cpp has it: the smallest normal number of 16 bits.
        let sum = if sum < 6.103_515_6e-5 { 6.103_515_6e-5 } else { sum };
        weights.iter_mut().for_each(|weight| *weight /= sum);
    }
    math::scale(weights, shape.expert_scale);
}

/// The groups of experts that a token chooses from, as bits: those whose two best experts have the
/// largest sums, of equal ones the first.
fn best_groups(shape: &BlockShape, score: impl Fn(usize) -> f32) -> u64 {
    let groups = shape.expert_groups;
    if groups <= 1 {
        return u64::MAX;
    }
    let len = shape.experts / groups;
    let sum = |group: usize| {
        let [mut best, mut second] = [f32::NEG_INFINITY; 2];
        for score in (group * len..(group + 1) * len).map(&score) {
            if score > best {
                (best, second) = (score, best);
            } else if score > second {
                second = score;
            }
        }
        if len == 1 { best } else { best + second }
    };
    let mut chosen = 0_u64;
    for _ in 0..shape.expert_groups_used {
        let mut best: Option<(usize, f32)> = None;
        for group in (0..groups).filter(|group| chosen >> group & 1 == 0) {
            let sum = sum(group);
            if best.is_none_or(|(_, highest)| sum > highest) {
                best = Some((group, sum));
            }
        }
        chosen |= best.map_or(0, |(group, _)| 1 << group);
    }
    chosen
}

/// Lets each expert compute the tokens that have chosen it: those at some places of the order.
pub(crate) fn compute(
    stage: &Stage<'_>,
    block: &Block,
    layers: &Layers,
    buffers: &mut Buffers,
    places: Range<usize>,
) -> Result<(), Status> {
    let (its, dim, share) = (&block.shape, stage.shape.dim, stage.shape.share);
    let choices = places.len();
    let Choices { routes, chosen, order, rows, results, gate, up, .. } = &mut buffers.experts;
    let order = &order[places.clone()];
    let rows = &mut rows[places.start * dim..places.end * dim];
    let downs = block.get(role::EXPERT_DOWN)?;
    // Of each expert, how many rows, and from which one on those of the other factor.
    let (gates, ups, height, up_rows) = match block.find(role::EXPERT_GATE_UP) {
        Some(both) => (both, both, 2 * its.expert_ffn, its.expert_ffn),
        None => (block.get(role::EXPERT_GATE)?, block.get(role::EXPERT_UP)?, its.expert_ffn, 0),
    };
    let scratch = &mut *buffers.scratch;
    let scales = match block.find(role::EXPERT_SCALES) {
        Some(scales) => {
            let to = &mut routes[..its.experts];
            scales.expand(layers, 0, to)?;
            Some(&*to)
        }
        None => None,
    };

    let (own, all) = (share.own(its.expert_ffn), share.rows(its.expert_ffn, choices));
    let stacked = &mut gate[..choices * its.expert_ffn];
    let own_gate = all.own(stacked);
    each_expert(chosen, order, |expert, places| {
        let x = &rows[places.start * dim..places.end * dim];
        let mut x = Input::new(x, buffers.integers.as_mut());
        let part = places.start * own.len()..places.end * own.len();
        let (gate, up) = (&mut own_gate[part], &mut up[..places.len() * own.len()]);
        let first = expert * height;
        let matrix = |first: usize| first + own.start..first + own.end;
        product(gates, layers, matrix(first), &mut x, gate, scratch)?;
        product(ups, layers, matrix(first + up_rows), &mut x, up, scratch)?;
        if let Some(bias) = block.find(role::EXPERT_GATE_BIAS) {
            add_bias(bias, layers, expert, own.clone(), gate, scratch)?;
        }
        if let Some(bias) = block.find(role::EXPERT_UP_BIAS) {
            add_bias(bias, layers, expert, own.clone(), up, scratch)?;
        }
        activation(its).gated(gate, up);
        Ok(())
    })?;
    let inner = all.gather_rows(stacked, up)?;

    let (own, all) = (share.own(dim), share.rows(dim, choices));
    let stacked = &mut results[..choices * dim];
    let own_results = all.own(stacked);
    each_expert(chosen, order, |expert, places| {
        let x = &inner[places.start * its.expert_ffn..places.end * its.expert_ffn];
        let mut x = Input::new(x, buffers.integers.as_mut());
        let part = &mut own_results[places.start * own.len()..places.end * own.len()];
        let first = expert * dim;
        let matrix = first + own.start..first + own.end;
        product(downs, layers, matrix, &mut x, part, scratch)?;
        if let Some(bias) = block.find(role::EXPERT_DOWN_BIAS) {
            add_bias(bias, layers, expert, own.clone(), part, scratch)?;
        }
        if let Some(scales) = scales {
            math::scale(part, scales[expert]);
        }
        Ok(())
    })?;
    all.gather(stacked)?;
    all.for_each(|from, to| rows[to].copy_from_slice(&stacked[from]));
    Ok(())
}

/// Orders choices by their experts, and those of one expert as they are.
fn sort(experts: usize, chosen: &[u32], order: &mut [u32]) {
    let mut slots = order.iter_mut();
    for expert in 0..experts {
        for (choice, _) in (0..).zip(chosen).filter(|(_, its)| **its as usize == expert) {
            slots.next().into_iter().for_each(|slot| *slot = choice);
        }
    }
}

/// Calls `run` with each expert that was chosen, and the places of its choices in the order.
fn each_expert(
    chosen: &[u32],
    order: &[u32],
    mut run: impl FnMut(usize, Range<usize>) -> Result<(), Status>,
) -> Result<(), Status> {
    let expert_of = |choice: &u32| chosen[*choice as usize];
    let mut start = 0;
    for group in order.chunk_by(|a, b| expert_of(a) == expert_of(b)) {
        let end = start + group.len();
        run(expert_of(&group[0]) as usize, start..end)?;
        start = end;
    }
    Ok(())
}

/// Adds what the experts of each token gave, in the order in which they were chosen.
fn sum(stage: &Stage<'_>, shape: &BlockShape, buffers: &mut Buffers) {
    let (dim, used) = (stage.shape.dim, shape.experts_used);
    let Choices { chosen, weights, order, rows, .. } = &mut buffers.experts;
    for (place, choice) in (0..).zip(&order[..stage.n * used]) {
        chosen[*choice as usize] = place;
    }
    let tokens = buffers.residual[..stage.n * dim].chunks_exact_mut(dim);
    let choices = chosen.chunks_exact(used).zip(weights.chunks_exact(used));
    for (token, (places, weights)) in tokens.zip(choices) {
        token.fill(0.0);
        for (place, weight) in places.iter().zip(weights) {
            let weight = if shape.has(feature::WEIGHED_INPUT) { 1.0 } else { *weight };
            math::add_scaled(token, weight, &rows[*place as usize * dim..][..dim]);
        }
    }
}

/// Adds what the expert for all tokens gives.
fn add_shared(
    stage: &Stage<'_>,
    block: &Block,
    layers: &Layers,
    buffers: &mut Buffers,
) -> Result<(), Status> {
    let (its, n, dim, share) = (&block.shape, stage.n, stage.shape.dim, stage.shape.share);
    let (own, all) = (share.own(its.shared_ffn), share.rows(its.shared_ffn, n));
    let rows = &buffers.normed[..n * dim];
    let mut normed = Input::new(rows, buffers.integers.as_mut());
    let scratch = &mut *buffers.scratch;
    let stacked = &mut buffers.gate[..n * its.shared_ffn];
    let gate = all.own(stacked);
    let up = &mut buffers.up[..gate.len()];
    let gates = block.get(role::SHARED_GATE)?;
    product(gates, layers, own.clone(), &mut normed, gate, scratch)?;
    product(block.get(role::SHARED_UP)?, layers, own, &mut normed, up, scratch)?;
    activation(its).gated(gate, up);
    let inner = all.gather_rows(stacked, buffers.up)?;

    let (own, all) = (share.own(dim), share.rows(dim, n));
    let mut inner = Input::new(inner, buffers.integers.as_mut());
    let stacked = &mut buffers.experts.results[..n * dim];
    let down = block.get(role::SHARED_DOWN)?;
    product(down, layers, own, &mut inner, all.own(stacked), scratch)?;
    let given = all.gather_rows(stacked, buffers.experts.rows)?;
    let weight = match block.find(role::SHARED_WEIGHT) {
        Some(weight) => {
            weight.expand(layers, 0, &mut scratch[..dim])?;
            Some(&scratch[..dim])
        }
        None => None,
    };
    let sums = buffers.residual[..n * dim].chunks_exact_mut(dim);
    for (sum, (given, row)) in sums.zip(given.chunks_exact(dim).zip(rows.chunks_exact(dim))) {
        match weight {
            Some(weight) => {
                math::add_scaled(sum, math::logistic_of(kernels::dot(row, weight)), given);
            }
            None => math::add(sum, given),
        }
    }
    Ok(())
}

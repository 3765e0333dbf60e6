//! Whether the numbers of a descriptor fit together.

use polychord_abi::network::feature;
use polychord_abi::transformer::{self, MOST_GROUPS, MOST_TAPS, status};

use crate::Status;

/// Whether a number is finite and above zero.
pub(crate) fn positive(number: f32) -> bool {
    number.is_finite() && number > 0.0
}

/// Whether a number is finite and not below zero.
pub(crate) fn natural(number: f32) -> bool {
    number.is_finite() && number >= 0.0
}

/// Whether the numbers of what mixes positions fit together, in a network of this width and with
/// this context, and nothing is asked for that its kind does not do.
pub(crate) fn good_mixer(block: &transformer::Block, dim: usize, context: usize) -> bool {
    use feature as f;

    let has = |features: u64| block.features & features != 0;
    let kinds =
        [f::SHORT_CONV, f::DELTA_NET, f::LATENT].into_iter().filter(|kind| has(*kind)).count();
    let of_attention = f::QKV_BIAS | f::HEAD_NORMS | f::ROW_NORMS | f::UNIT_NORMS | f::VALUE_NORMS;
    let of_attention = of_attention | f::FUSED_QKV | f::ATTN_OUTPUT_BIAS | f::SINKS | f::LATE_NORMS;
    let of_attention = of_attention | f::KEYS_AS_VALUES | f::OUTPUT_GATE | f::SHARED_KEYS;
    let is_recurrent = has(f::RECURRENT);
    let (positions, window) = (block.positions as usize, block.window as usize);
    let has_room = match is_recurrent {
        true => positions == 0,
        false => {
            (1..=context).contains(&positions)
                && (positions == context || window != 0 && positions >= window)
        }
    };
    let fits = if has(f::SHORT_CONV) {
        // A channel is a head.
        block.heads as usize == dim && block.kv_heads == block.heads && block.head_dim == 1
    } else if has(f::LATENT) {
        block.kv_heads == 1
            && (1..block.head_dim).contains(&block.latent_rank)
            && block.plain_dim != 0
            && (1..=block.head_dim).contains(&block.value_dim)
            && (block.query_rank != 0) == has(f::LOW_RANK_QUERIES)
    } else {
        block.latent_rank == 0
            && (!has(f::OUTPUT_GATE) || !has(f::FUSED_QKV | f::ROW_NORMS | f::QKV_BIAS))
            && (!has(f::SHARED_KEYS) || !has(f::FUSED_QKV | f::ROW_NORMS))
    };
    kinds <= 1
        && fits
        && has_room
        // Rows are put before any of them is looked at.
        && (!has(f::ENCODER) || kinds == 0 && positions == context)
        && (kinds == 0 || !has(of_attention))
        && (!is_recurrent || (2..=MOST_TAPS).contains(&block.taps))
}

/// Checks that a block can use the keys and values of another.
pub(crate) fn check_source(
    block: &transformer::Block,
    source: &transformer::Block,
) -> Result<(), Status> {
    let sizes =
        |block: &transformer::Block| [block.heads, block.kv_heads, block.head_dim, block.positions];
    let others = feature::RECURRENT | feature::LATENT | feature::SHARED_KEYS;
    let good = sizes(block) == sizes(source) && source.features & others == 0;
    if good { Ok(()) } else { Err(status::BAD_SHAPE) }
}

pub(crate) fn good_experts(block: &transformer::Block) -> bool {
    use polychord_abi::transformer::gating::{SIGMOID_OF_CHOSEN, SOFTMAX};

    let shared = block.features & feature::SHARED_EXPERT != 0;
    (1..=block.experts).contains(&block.experts_used)
        && block.expert_ffn != 0
        && (block.shared_ffn != 0) == shared
        && (SOFTMAX..=SIGMOID_OF_CHOSEN).contains(&block.gating)
        && positive(block.expert_scale)
        && good_groups(block)
}

fn good_groups(block: &transformer::Block) -> bool {
    let (groups, used) = (block.expert_groups, block.expert_groups_used);
    groups <= 1
        || groups <= MOST_GROUPS
            && block.experts.is_multiple_of(groups)
            && (1..=groups).contains(&used)
            && block.experts_used <= block.experts / groups * used
}

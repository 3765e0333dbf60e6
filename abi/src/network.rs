//! The one table of the network: what each tensor is for, its name in files, and its shape.
//!
//! The host finds the tensors of a file by it and refuses all others; the guest checks by it what
//! the host hands over. Shapes are symbolic ([`Size`]), so that the table says nothing about one
//! model, and a tensor that not all networks have depends on a [`feature`](mod@feature).

use Need::{If, Optional, OptionalIn};
use Section::{Attention, Embedding, FeedForward, Output, Rope};
use Size::{
    Carried, ExpertDowns, ExpertPairs, ExpertRows, ExpertWidth, Experts, FeedForward as Ffn,
    FusedFeedForward, FusedRows, GatedQueries, HeadWidth, Hidden, Keys, LatentKeyRows, LatentPairs,
    LatentQueries, LatentRank, LatentValueRows, LatentValues, LayerInput, One, Open, PlainWidth,
    Queries, QueryHeads, QueryRank, Rates, RopePairs, SharedWidth, Taps, Vocab,
};

/// What a network or a block has or does beyond the common ground, as bits of
/// [`Descriptor::features`](crate::transformer::Descriptor::features) and
/// [`Block::features`](crate::transformer::Block::features).
///
/// A guest refuses bits that it does not know, since leaving a part of a network out gives wrong
/// text.
pub mod feature {
    /// Queries, keys and values have biases.
    pub const QKV_BIAS: u64 = 1 << 0;
    /// The output is computed with the embedding's matrix.
    pub const TIED_OUTPUT: u64 = 1 << 1;
    /// Each head of queries and keys is normalized, with weights of their own.
    pub const HEAD_NORMS: u64 = 1 << 2;
    /// All heads of queries, and all of keys, are normalized as one vector.
    pub const ROW_NORMS: u64 = 1 << 3;
    /// Queries and keys are normalized after their rotation, not before.
    pub const LATE_NORMS: u64 = 1 << 4;
    /// What attention and feed-forward give is normalized before it is added.
    pub const POST_NORMS: u64 = 1 << 5;
    /// What goes into attention and feed-forward is the hidden state as it is.
    pub const NO_PRE_NORMS: u64 = 1 << 6;
    /// Norms of the hidden state subtract its mean.
    pub const LAYER_NORM: u64 = 1 << 7;
    /// Queries, keys and values are rows of one matrix, in this order.
    pub const FUSED_QKV: u64 = 1 << 8;
    /// The matrix of `ffn_up` has the rows of the gate, and then those of the other factor.
    pub const FUSED_GATE: u64 = 1 << 9;
    /// The feed-forward part has no gate: the function is of its one product.
    pub const NO_GATE: u64 = 1 << 10;
    /// The function is GELU, by its form with the hyperbolic tangent, not SiLU.
    pub const GELU: u64 = 1 << 11;
    /// The function is the square of what is above zero.
    pub const RELU_SQUARED: u64 = 1 << 12;
    /// What attention gives has a bias.
    pub const ATTN_OUTPUT_BIAS: u64 = 1 << 13;
    /// The feed-forward part gets what the attention got, not what it made of it.
    pub const PARALLEL: u64 = 1 << 14;
    /// The feed-forward part is divided into experts, of which each token chooses some.
    pub const EXPERTS: u64 = 1 << 15;
    /// One more expert serves all tokens.
    pub const SHARED_EXPERT: u64 = 1 << 16;
    /// What it gives is multiplied by the logistic function of a product.
    pub const SHARED_GATE: u64 = 1 << 17;
    /// Experts and their choice have biases.
    pub const EXPERT_BIAS: u64 = 1 << 18;
    /// A bias is added for choosing experts alone, not for weighing them.
    pub const CHOICE_BIAS: u64 = 1 << 19;
    /// The weights of the experts that were chosen are divided by their sum.
    pub const EXPERT_RENORM: u64 = 1 << 20;
    /// Each head attends to nothing with a weight of its own, too.
    pub const SINKS: u64 = 1 << 21;
    /// The function is `g * sigmoid(1.702 * g) * (u + 1)`, of factors cut at 7.
    pub const CLAMPED_GATE: u64 = 1 << 22;
    /// Windows begin at multiples of their length.
    pub const CHUNKS: u64 = 1 << 23;
    /// Heads of queries and keys are normalized after their rotation, without weights.
    pub const UNIT_NORMS: u64 = 1 << 24;
    /// Heads of values are normalized, without weights.
    pub const VALUE_NORMS: u64 = 1 << 25;
    /// Values are the keys as they were projected.
    pub const KEYS_AS_VALUES: u64 = 1 << 26;
    /// What the block gives, with what it got, is multiplied by a number.
    pub const BLOCK_SCALE: u64 = 1 << 27;
    /// What goes into an expert is multiplied by its weight, not what comes out of it.
    pub const WEIGHED_INPUT: u64 = 1 << 28;
    /// Positions are mixed by a short convolution of each channel, not by attention: what goes in is
    /// multiplied by a gate before it, and what comes out by another. A channel is a head of one element.
    pub const SHORT_CONV: u64 = 1 << 29;
    /// Positions are mixed by a gated delta net, not by attention: heads are those of values, and
    /// key heads those of queries and keys.
    pub const DELTA_NET: u64 = 1 << 30;
    /// Heads of a delta net take its key heads in turn; else neighbors share one.
    pub const KEY_HEADS_IN_TURN: u64 = 1 << 31;
    /// What says how much a delta net writes and how much it forgets are rows of one matrix, by key head.
    pub const FUSED_RATES: u64 = 1 << 32;
    /// Each head of queries has a gate, by whose logistic function its result is multiplied.
    pub const OUTPUT_GATE: u64 = 1 << 33;
    /// Keys and values of all heads are products of one short vector, which the cache has (MLA).
    pub const LATENT: u64 = 1 << 34;
    /// Queries are products of a short vector, too.
    pub const LOW_RANK_QUERIES: u64 = 1 << 35;
    /// The matrices that make keys and values of that vector are rows of one, by head.
    pub const FUSED_LATENT: u64 = 1 << 36;
    /// The matrix of each expert has the rows of the gate, and then those of the other factor.
    pub const FUSED_EXPERTS: u64 = 1 << 37;
    /// A feed-forward part for all tokens stands beside the experts, each with norms of its own.
    pub const DENSE_BESIDE: u64 = 1 << 38;
    /// What each expert gives is multiplied by a number.
    pub const EXPERT_SCALES: u64 = 1 << 39;
    /// Each block gets a vector of its own of each token, beside the hidden state.
    pub const LAYER_INPUTS: u64 = 1 << 40;
    /// Keys and values are those of an earlier block.
    pub const SHARED_KEYS: u64 = 1 << 41;
    /// Blocks with one of these have no keys and values, but a state of fixed size.
    pub const RECURRENT: u64 = SHORT_CONV | DELTA_NET;
    /// Tokens attend to those behind them, too: a sequence is computed in one call. Windows reach
    /// half of their length to both sides.
    pub const ENCODER: u64 = 1 << 42;
    /// The hidden state is normalized behind attention and feed-forward, once they are added to it.
    pub const SUM_NORMS: u64 = 1 << 43;
    /// All bits that this version of the contract knows.
    pub const ALL: u64 = (1 << 44) - 1;
}

/// Declares the numbers of all roles, and the table.
macro_rules! roles {
    ($($name:ident = $number:literal: $file:literal, $section:expr, [$rows:expr, $cols:expr], $need:expr;)*) => {
        /// What a tensor is for: indices of [`ROLES`].
        pub mod role {
            $(#[doc = concat!("`", $file, "`: `", stringify!([$rows, $cols]), "`.")]
            pub const $name: u32 = $number;)*
        }

        /// All roles, each at the index that is its number. New ones are appended: numbers are a
        /// part of the contract.
        pub const ROLES: &[Role] = &[$(Role {
            number: $number,
            name: $file,
            section: $section,
            rows: $rows,
            cols: $cols,
            need: $need,
        },)*];
    };
}

use feature as f;

/// Blocks that have no heads of queries, keys and values of their own.
const NO_HEADS: u64 = f::RECURRENT | f::LATENT;
/// Blocks that have both kinds of feed-forward part.
const BESIDE: u64 = f::EXPERTS | f::DENSE_BESIDE;

roles! {
    TOKEN_EMBD = 0: "token_embd.weight", Embedding, [Vocab, Hidden], ALWAYS;
    OUTPUT_NORM = 1: "output_norm.weight", Output, [One, Hidden], unless(f::SUM_NORMS);
    OUTPUT = 2: "output.weight", Output, [Vocab, Hidden], unless(f::TIED_OUTPUT);
    // Divides each frequency, as the two others do, of which one is chosen by the context's length.
    ROPE_FREQS = 3: "rope_freqs.weight", Rope, [One, RopePairs], Optional;
    ATTN_NORM = 4: "blk.{}.attn_norm.weight", Attention, [One, Hidden], unless(f::NO_PRE_NORMS);
    ATTN_Q = 5: "blk.{}.attn_q.weight", Attention, [Queries, Hidden], unless(f::FUSED_QKV | f::OUTPUT_GATE | NO_HEADS);
    ATTN_K = 6: "blk.{}.attn_k.weight", Attention, [Keys, Hidden], unless(f::FUSED_QKV | f::SHARED_KEYS | NO_HEADS);
    ATTN_V = 7: "blk.{}.attn_v.weight", Attention, [Keys, Hidden], unless(f::FUSED_QKV | f::KEYS_AS_VALUES | f::SHARED_KEYS | NO_HEADS);
    ATTN_OUTPUT = 8: "blk.{}.attn_output.weight", Attention, [Hidden, Queries], unless(NO_HEADS);
    FFN_NORM = 9: "blk.{}.ffn_norm.weight", FeedForward, [One, Hidden], unless(f::NO_PRE_NORMS | f::PARALLEL);
    FFN_GATE = 10: "blk.{}.ffn_gate.weight", FeedForward, [Ffn, Hidden], unless(f::NO_GATE | f::FUSED_GATE | f::EXPERTS).or(BESIDE);
    FFN_UP = 11: "blk.{}.ffn_up.weight", FeedForward, [Ffn, Hidden], unless(f::FUSED_GATE | f::EXPERTS).or(BESIDE);
    FFN_DOWN = 12: "blk.{}.ffn_down.weight", FeedForward, [Hidden, Ffn], unless(f::EXPERTS).or(BESIDE);
    ATTN_Q_BIAS = 13: "blk.{}.attn_q.bias", Attention, [One, Queries], with(f::QKV_BIAS).but(f::FUSED_QKV | f::OUTPUT_GATE | NO_HEADS);
    ATTN_K_BIAS = 14: "blk.{}.attn_k.bias", Attention, [One, Keys], with(f::QKV_BIAS).but(f::FUSED_QKV | f::SHARED_KEYS | NO_HEADS);
    ATTN_V_BIAS = 15: "blk.{}.attn_v.bias", Attention, [One, Keys], with(f::QKV_BIAS).but(f::FUSED_QKV | f::KEYS_AS_VALUES | f::SHARED_KEYS | NO_HEADS);
    ROPE_FACTORS_SHORT = 16: "rope_factors_short.weight", Rope, [One, RopePairs], Optional;
    ROPE_FACTORS_LONG = 17: "rope_factors_long.weight", Rope, [One, RopePairs], Optional;
    OUTPUT_BIAS = 18: "output.bias", Output, [One, Vocab], Optional;
    ATTN_QKV = 19: "blk.{}.attn_qkv.weight", Attention, [FusedRows, Hidden], with(f::FUSED_QKV);
    ATTN_QKV_BIAS = 20: "blk.{}.attn_qkv.bias", Attention, [One, FusedRows], with(f::FUSED_QKV | f::QKV_BIAS);
    ATTN_OUTPUT_BIAS = 21: "blk.{}.attn_output.bias", Attention, [One, Hidden], with(f::ATTN_OUTPUT_BIAS);
    ATTN_Q_NORM = 22: "blk.{}.attn_q_norm.weight", Attention, [One, HeadWidth], with(f::HEAD_NORMS);
    ATTN_K_NORM = 23: "blk.{}.attn_k_norm.weight", Attention, [One, HeadWidth], with(f::HEAD_NORMS).but(f::SHARED_KEYS);
    ATTN_Q_ROW_NORM = 24: "blk.{}.attn_q_norm.weight", Attention, [One, Queries], with(f::ROW_NORMS);
    ATTN_K_ROW_NORM = 25: "blk.{}.attn_k_norm.weight", Attention, [One, Keys], with(f::ROW_NORMS);
    ATTN_POST_NORM = 26: "blk.{}.post_attention_norm.weight", Attention, [One, Hidden], with(f::POST_NORMS);
    ATTN_SINKS = 27: "blk.{}.attn_sinks.weight", Attention, [One, QueryHeads], with(f::SINKS);
    FFN_POST_NORM = 28: "blk.{}.post_ffw_norm.weight", FeedForward, [One, Hidden], with(f::POST_NORMS);
    FFN_GATE_UP = 29: "blk.{}.ffn_up.weight", FeedForward, [FusedFeedForward, Hidden], with(f::FUSED_GATE).but(f::EXPERTS);
    ROUTER = 30: "blk.{}.ffn_gate_inp.weight", FeedForward, [Experts, Hidden], with(f::EXPERTS);
    ROUTER_BIAS = 31: "blk.{}.ffn_gate_inp.bias", FeedForward, [One, Experts], with(f::EXPERTS | f::EXPERT_BIAS);
    CHOICE_BIAS = 32: "blk.{}.exp_probs_b.bias", FeedForward, [One, Experts], with(f::EXPERTS | f::CHOICE_BIAS);
    // The experts' matrices one after the other.
    EXPERT_GATE = 33: "blk.{}.ffn_gate_exps.weight", FeedForward, [ExpertRows, Hidden], with(f::EXPERTS).but(f::FUSED_EXPERTS);
    EXPERT_UP = 34: "blk.{}.ffn_up_exps.weight", FeedForward, [ExpertRows, Hidden], with(f::EXPERTS).but(f::FUSED_EXPERTS);
    EXPERT_DOWN = 35: "blk.{}.ffn_down_exps.weight", FeedForward, [ExpertDowns, ExpertWidth], with(f::EXPERTS);
    EXPERT_GATE_BIAS = 36: "blk.{}.ffn_gate_exps.bias", FeedForward, [Experts, ExpertWidth], with(f::EXPERTS | f::EXPERT_BIAS);
    EXPERT_UP_BIAS = 37: "blk.{}.ffn_up_exps.bias", FeedForward, [Experts, ExpertWidth], with(f::EXPERTS | f::EXPERT_BIAS);
    EXPERT_DOWN_BIAS = 38: "blk.{}.ffn_down_exps.bias", FeedForward, [Experts, Hidden], with(f::EXPERTS | f::EXPERT_BIAS);
    SHARED_GATE = 39: "blk.{}.ffn_gate_shexp.weight", FeedForward, [SharedWidth, Hidden], with(f::EXPERTS | f::SHARED_EXPERT);
    SHARED_UP = 40: "blk.{}.ffn_up_shexp.weight", FeedForward, [SharedWidth, Hidden], with(f::EXPERTS | f::SHARED_EXPERT);
    SHARED_DOWN = 41: "blk.{}.ffn_down_shexp.weight", FeedForward, [Hidden, SharedWidth], with(f::EXPERTS | f::SHARED_EXPERT);
    SHARED_WEIGHT = 42: "blk.{}.ffn_gate_inp_shexp.weight", FeedForward, [One, Hidden], with(f::EXPERTS | f::SHARED_EXPERT | f::SHARED_GATE);
    BLOCK_SCALE = 43: "blk.{}.layer_output_scale.weight", FeedForward, [One, One], with(f::BLOCK_SCALE);
    // What each block gets of each token: of the token, and of its embedding.
    INPUT_EMBD = 44: "per_layer_token_embd.weight", Embedding, [Vocab, Carried], with(f::LAYER_INPUTS);
    INPUT_PROJ = 45: "per_layer_model_proj.weight", Embedding, [Carried, Hidden], with(f::LAYER_INPUTS);
    INPUT_PROJ_NORM = 46: "per_layer_proj_norm.weight", Embedding, [One, LayerInput], with(f::LAYER_INPUTS);
    INPUT_GATE = 47: "blk.{}.inp_gate.weight", FeedForward, [LayerInput, Hidden], with(f::LAYER_INPUTS);
    INPUT_BACK = 48: "blk.{}.proj.weight", FeedForward, [Hidden, LayerInput], with(f::LAYER_INPUTS);
    INPUT_NORM = 49: "blk.{}.post_norm.weight", FeedForward, [One, Hidden], with(f::LAYER_INPUTS);
    EXPERT_GATE_UP = 50: "blk.{}.ffn_gate_up_exps.weight", FeedForward, [ExpertPairs, Hidden], with(f::EXPERTS | f::FUSED_EXPERTS);
    EXPERT_SCALES = 51: "blk.{}.ffn_down_exps.scale", FeedForward, [One, Experts], with(f::EXPERTS | f::EXPERT_SCALES);
    ROUTER_SCALE = 52: "blk.{}.ffn_gate_inp.scale", FeedForward, [One, Hidden], with(BESIDE);
    DENSE_POST_NORM = 53: "blk.{}.post_ffw_norm_1.weight", FeedForward, [One, Hidden], with(BESIDE);
    EXPERT_NORM = 54: "blk.{}.pre_ffw_norm_2.weight", FeedForward, [One, Hidden], with(BESIDE);
    EXPERT_POST_NORM = 55: "blk.{}.post_ffw_norm_2.weight", FeedForward, [One, Hidden], with(BESIDE);
    // One row for each channel, the newest position last.
    CONV = 56: "blk.{}.shortconv.conv.weight", Attention, [Queries, Taps], with(f::SHORT_CONV);
    // Two gates and what goes in, one after the other: before, behind, and itself.
    CONV_IN = 57: "blk.{}.shortconv.in_proj.weight", Attention, [FusedRows, Hidden], with(f::SHORT_CONV);
    CONV_OUT = 58: "blk.{}.shortconv.out_proj.weight", Attention, [Hidden, Queries], with(f::SHORT_CONV);
    // Queries and keys by key head, and values.
    DELTA_IN = 59: "blk.{}.attn_qkv.weight", Attention, [FusedRows, Hidden], with(f::DELTA_NET);
    DELTA_CONV = 60: "blk.{}.ssm_conv1d.weight", Attention, [FusedRows, Taps], with(f::DELTA_NET);
    DELTA_GATE = 61: "blk.{}.attn_gate.weight", Attention, [Queries, Hidden], with(f::DELTA_NET);
    DELTA_WRITE = 62: "blk.{}.ssm_beta.weight", Attention, [QueryHeads, Hidden], with(f::DELTA_NET).but(f::FUSED_RATES);
    DELTA_FORGET = 63: "blk.{}.ssm_alpha.weight", Attention, [QueryHeads, Hidden], with(f::DELTA_NET).but(f::FUSED_RATES);
    DELTA_RATES = 64: "blk.{}.ssm_ba.weight", Attention, [Rates, Hidden], with(f::DELTA_NET | f::FUSED_RATES);
    DELTA_BIAS = 65: "blk.{}.ssm_dt.bias", Attention, [One, QueryHeads], with(f::DELTA_NET);
    DELTA_DECAY = 66: "blk.{}.ssm_a", Attention, [One, QueryHeads], with(f::DELTA_NET);
    DELTA_NORM = 67: "blk.{}.ssm_norm.weight", Attention, [One, HeadWidth], with(f::DELTA_NET);
    DELTA_OUT = 68: "blk.{}.ssm_out.weight", Attention, [Hidden, Queries], with(f::DELTA_NET);
    // A head of queries, and then its gate.
    ATTN_Q_GATED = 69: "blk.{}.attn_q.weight", Attention, [GatedQueries, Hidden], with(f::OUTPUT_GATE);
    LATENT_Q = 70: "blk.{}.attn_q.weight", Attention, [LatentQueries, Hidden], with(f::LATENT).but(f::LOW_RANK_QUERIES);
    LATENT_Q_A = 71: "blk.{}.attn_q_a.weight", Attention, [QueryRank, Hidden], with(f::LATENT | f::LOW_RANK_QUERIES);
    LATENT_Q_NORM = 72: "blk.{}.attn_q_a_norm.weight", Attention, [One, QueryRank], with(f::LATENT | f::LOW_RANK_QUERIES);
    LATENT_Q_B = 73: "blk.{}.attn_q_b.weight", Attention, [LatentQueries, QueryRank], with(f::LATENT | f::LOW_RANK_QUERIES);
    // The short vector, and the part of keys that is rotated, which all heads share.
    LATENT_KV_A = 74: "blk.{}.attn_kv_a_mqa.weight", Attention, [HeadWidth, Hidden], with(f::LATENT);
    LATENT_KV_NORM = 75: "blk.{}.attn_kv_a_norm.weight", Attention, [One, LatentRank], with(f::LATENT);
    // A matrix for each head: that of keys is transposed.
    LATENT_K_B = 76: "blk.{}.attn_k_b.weight", Attention, [LatentKeyRows, PlainWidth], with(f::LATENT).but(f::FUSED_LATENT);
    LATENT_V_B = 77: "blk.{}.attn_v_b.weight", Attention, [LatentValueRows, LatentRank], with(f::LATENT).but(f::FUSED_LATENT);
    // For each head the rows of keys, and then those of values.
    LATENT_KV_B = 78: "blk.{}.attn_kv_b.weight", Attention, [LatentPairs, LatentRank], with(f::LATENT | f::FUSED_LATENT);
    LATENT_OUT = 79: "blk.{}.attn_output.weight", Attention, [Hidden, LatentValues], with(f::LATENT);
    // Of these the first row is added to each token.
    TOKEN_TYPES = 80: "token_types.weight", Embedding, [Open, Hidden], OptionalIn(f::SUM_NORMS);
    // A row for each position, added to its token.
    POSITIONS = 81: "position_embd.weight", Embedding, [Open, Hidden], OptionalIn(f::SUM_NORMS);
    EMBEDDING_NORM = 82: "token_embd_norm.weight", Embedding, [One, Hidden], with(f::SUM_NORMS);
    EMBEDDING_NORM_BIAS = 83: "token_embd_norm.bias", Embedding, [One, Hidden], with(f::SUM_NORMS);
    ATTN_SUM_NORM = 84: "blk.{}.attn_output_norm.weight", Attention, [One, Hidden], with(f::SUM_NORMS);
    ATTN_SUM_NORM_BIAS = 85: "blk.{}.attn_output_norm.bias", Attention, [One, Hidden], with(f::SUM_NORMS);
    FFN_SUM_NORM = 86: "blk.{}.layer_output_norm.weight", FeedForward, [One, Hidden], with(f::SUM_NORMS);
    FFN_SUM_NORM_BIAS = 87: "blk.{}.layer_output_norm.bias", FeedForward, [One, Hidden], with(f::SUM_NORMS);
    FFN_UP_BIAS = 88: "blk.{}.ffn_up.bias", FeedForward, [One, Ffn], OptionalIn(f::SUM_NORMS);
    FFN_DOWN_BIAS = 89: "blk.{}.ffn_down.bias", FeedForward, [One, Hidden], OptionalIn(f::SUM_NORMS);
    // What is left of a sequence goes through the first of these, and then through the other.
    DENSE_2 = 90: "dense_2.weight", Output, [Open, Hidden], OptionalIn(f::ENCODER);
    DENSE_3 = 91: "dense_3.weight", Output, [Open, Open], OptionalIn(f::ENCODER);
}

// Looking a role up is indexing.
const _: () = {
    let mut index = 0;
    while index < ROLES.len() {
        assert!(ROLES[index].number as usize == index);
        index += 1;
    }
};

/// One line of the table.
///
/// ```
/// use polychord_abi::network::{Role, Size};
/// use polychord_abi::transformer::role;
///
/// let norm = Role::find(role::ATTN_NORM).expect("it is in the table");
/// assert_eq!(norm.name.replace("{}", "7"), "blk.7.attn_norm.weight");
/// assert!(norm.is_vector() && norm.cols == Size::Hidden);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Role {
    /// Its number: one of [`role`](mod@role).
    pub number: u32,
    /// The tensor's name in GGUF files, with `{}` for the number of the block.
    pub name: &'static str,
    /// The section of the network that it belongs to.
    pub section: Section,
    /// Rows (outputs); [`Size::One`] for a vector.
    pub rows: Size,
    /// Elements of a row (inputs).
    pub cols: Size,
    /// Which networks have it.
    pub need: Need,
}

impl Role {
    /// The role of a number, if there is one.
    #[must_use]
    pub fn find(number: u32) -> Option<&'static Self> {
        ROLES.get(number as usize)
    }

    /// Whether it is a vector, which is stored as 32-bit floats.
    #[must_use]
    pub const fn is_vector(&self) -> bool {
        matches!(self.rows, Size::One)
    }
}

/// The section of a network that a tensor belongs to.
///
/// ```
/// use polychord_abi::network::{ROLES, Section};
///
/// let of_block = ROLES.iter().filter(|role| role.section.is_in_block());
/// assert!(of_block.clone().any(|role| role.section == Section::FeedForward));
/// assert!(of_block.count() < ROLES.len());
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Section {
    /// The embedding of tokens.
    Embedding,
    /// What all blocks need to rotate queries and keys.
    Rope,
    /// The first half of a block.
    Attention,
    /// The second half of a block.
    FeedForward,
    /// What follows the last block.
    Output,
}

impl Section {
    /// Whether each block has one.
    #[must_use]
    pub const fn is_in_block(self) -> bool {
        matches!(self, Self::Attention | Self::FeedForward)
    }
}

/// Which networks have a tensor; all others must not.
///
/// ```
/// use polychord_abi::network::{Need, feature};
///
/// let bias = Need::If { with: feature::QKV_BIAS, without: 0, or: 0 };
/// assert!(bias.is_required(feature::QKV_BIAS));
/// assert!(!bias.is_allowed(0));
/// assert!(Need::Optional.is_allowed(0));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Need {
    /// A network may have it, and uses it then.
    Optional,
    /// A network that has all of some features may have it.
    OptionalIn(u64),
    /// Networks that have all of some features, and none of others.
    If {
        /// What they have.
        with: u64,
        /// What they lack.
        without: u64,
        /// Or networks that have all of these; 0 for no others.
        or: u64,
    },
}

/// Every network has it.
const ALWAYS: Need = with(0);

/// Networks that have all of these features.
const fn with(features: u64) -> Need {
    If { with: features, without: 0, or: 0 }
}

/// Networks that have none of these features.
const fn unless(features: u64) -> Need {
    with(0).but(features)
}

impl Need {
    /// Of the networks those that have none of these features.
    const fn but(self, without: u64) -> Self {
        match self {
            If { with, or, .. } => If { with, without, or },
            Optional | OptionalIn(_) => self,
        }
    }

    /// These networks, and those that have all of these features.
    const fn or(self, or: u64) -> Self {
        match self {
            If { with, without, .. } => If { with, without, or },
            Optional | OptionalIn(_) => self,
        }
    }

    /// Whether a network with these features must have the tensor.
    #[must_use]
    pub const fn is_required(self, features: u64) -> bool {
        match self {
            Optional | OptionalIn(_) => false,
            If { with, without, or } => {
                features & with == with && features & without == 0 || or != 0 && features & or == or
            }
        }
    }

    /// Whether a network with these features may have the tensor.
    #[must_use]
    pub const fn is_allowed(self, features: u64) -> bool {
        match self {
            Optional => true,
            OptionalIn(with) => features & with == with,
            If { .. } => self.is_required(features),
        }
    }
}

/// A number that tensors of a role have rows or columns of, whatever the model.
///
/// ```
/// use polychord_abi::network::{ROLES, Size};
/// use polychord_abi::transformer::role;
///
/// // The output has a row for each token.
/// assert_eq!(ROLES[role::OUTPUT as usize].rows, Size::Vocab);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Size {
    /// One.
    One,
    /// As many as the file has.
    Open,
    /// `vocab`.
    Vocab,
    /// `dim`.
    Hidden,
    /// `ffn`.
    FeedForward,
    /// `2 * ffn`.
    FusedFeedForward,
    /// `heads`.
    QueryHeads,
    /// `head_dim`.
    HeadWidth,
    /// `heads * head_dim`.
    Queries,
    /// `kv_heads * head_dim`.
    Keys,
    /// `(heads + 2 * kv_heads) * head_dim`.
    FusedRows,
    /// `rope_dim / 2`.
    RopePairs,
    /// `experts`.
    Experts,
    /// `expert_ffn`.
    ExpertWidth,
    /// `experts * expert_ffn`.
    ExpertRows,
    /// `experts * dim`.
    ExpertDowns,
    /// `shared_ffn`.
    SharedWidth,
    /// `2 * experts * expert_ffn`.
    ExpertPairs,
    /// `carried`.
    Carried,
    /// `layer_input`.
    LayerInput,
    /// `taps`.
    Taps,
    /// `2 * heads`.
    Rates,
    /// `2 * heads * head_dim`.
    GatedQueries,
    /// `query_rank`.
    QueryRank,
    /// `latent_rank`.
    LatentRank,
    /// `plain_dim`.
    PlainWidth,
    /// `heads * (plain_dim + head_dim - latent_rank)`.
    LatentQueries,
    /// `heads * latent_rank`.
    LatentKeyRows,
    /// `heads * value_dim`, a matrix for each head.
    LatentValueRows,
    /// `heads * (plain_dim + value_dim)`.
    LatentPairs,
    /// `heads * value_dim`.
    LatentValues,
}

/// The numbers of a network or of one of its blocks that all sizes follow from. All count elements.
///
/// ```
/// use polychord_abi::network::{Size, Sizes};
///
/// let sizes = Sizes { heads: 9, kv_heads: 3, head_dim: 64, ..Sizes::default() };
/// assert_eq!(sizes.get(Size::Queries), Some(576));
/// assert_eq!(sizes.get(Size::Keys), Some(192));
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sizes {
    /// Number of tokens.
    pub vocab: u32,
    /// Width of the hidden state.
    pub dim: u32,
    /// Width of the feed-forward part; 0 if that is divided into experts.
    pub ffn: u32,
    /// Query heads of a block.
    pub heads: u32,
    /// Key and value heads.
    pub kv_heads: u32,
    /// Width of one head.
    pub head_dim: u32,
    /// How many of a head's elements are rotated.
    pub rope_dim: u32,
    /// Number of experts.
    pub experts: u32,
    /// How many of them each token chooses.
    pub experts_used: u32,
    /// Width of one expert.
    pub expert_ffn: u32,
    /// Width of the expert that serves all tokens.
    pub shared_ffn: u32,
    /// Width of what a block gets of each token beside the hidden state.
    pub layer_input: u32,
    /// Width of that for all blocks of the network together.
    pub carried: u32,
    /// Positions that a convolution takes, the newest included.
    pub taps: u32,
    /// Width of the vector that latent queries are made of.
    pub query_rank: u32,
    /// Width of the vector that latent keys and values are made of.
    pub latent_rank: u32,
    /// Width of the part of a latent head that is not rotated.
    pub plain_dim: u32,
    /// Width of the values of a latent head.
    pub value_dim: u32,
    /// Positions of the cache of a block; 0 if it has none.
    pub positions: u32,
    /// Bits of [`feature`](mod@feature).
    pub features: u64,
}

impl Sizes {
    /// The value of a symbolic size in this network; none if it overflows, or is open.
    #[must_use]
    pub const fn get(&self, size: Size) -> Option<u32> {
        match size {
            Size::One => Some(1),
            Size::Open => None,
            Size::Vocab => Some(self.vocab),
            Size::Hidden => Some(self.dim),
            Size::FeedForward => Some(self.ffn),
            Size::FusedFeedForward => self.ffn.checked_mul(2),
            Size::QueryHeads => Some(self.heads),
            Size::HeadWidth => Some(self.head_dim),
            Size::Queries => self.heads.checked_mul(self.head_dim),
            Size::Keys => self.kv_heads.checked_mul(self.head_dim),
            Size::FusedRows => match self.kv_heads.checked_mul(2) {
                Some(others) => match self.heads.checked_add(others) {
                    Some(all) => all.checked_mul(self.head_dim),
                    None => None,
                },
                None => None,
            },
            Size::RopePairs => Some(self.rope_dim / 2),
            Size::Experts => Some(self.experts),
            Size::ExpertWidth => Some(self.expert_ffn),
            Size::ExpertRows => self.experts.checked_mul(self.expert_ffn),
            Size::ExpertDowns => self.experts.checked_mul(self.dim),
            Size::SharedWidth => Some(self.shared_ffn),
            Size::ExpertPairs => match self.experts.checked_mul(self.expert_ffn) {
                Some(rows) => rows.checked_mul(2),
                None => None,
            },
            Size::Carried => Some(self.carried),
            Size::LayerInput => Some(self.layer_input),
            Size::Taps => Some(self.taps),
            Size::Rates => self.heads.checked_mul(2),
            Size::GatedQueries => match self.heads.checked_mul(2) {
                Some(heads) => heads.checked_mul(self.head_dim),
                None => None,
            },
            Size::QueryRank => Some(self.query_rank),
            Size::LatentRank => Some(self.latent_rank),
            Size::PlainWidth => Some(self.plain_dim),
            Size::LatentQueries => match self.head_dim.checked_sub(self.latent_rank) {
                Some(turned) => self.each_head(self.plain_dim, turned),
                None => None,
            },
            Size::LatentKeyRows => self.heads.checked_mul(self.latent_rank),
            Size::LatentValueRows | Size::LatentValues => self.heads.checked_mul(self.value_dim),
            Size::LatentPairs => self.each_head(self.plain_dim, self.value_dim),
        }
    }

    /// `heads * (a + b)`.
    const fn each_head(&self, a: u32, b: u32) -> Option<u32> {
        match a.checked_add(b) {
            Some(both) => both.checked_mul(self.heads),
            None => None,
        }
    }

    /// Whether the block has one of some features.
    #[must_use]
    pub const fn has(&self, features: u64) -> bool {
        self.features & features != 0
    }
}

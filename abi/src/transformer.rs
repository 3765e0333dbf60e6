//! Exports and descriptors of the transformer guest.
//!
//! The host drives the network one stage at a time, so that the same guest serves every
//! placement: all blocks in one call, one block a call while weights are paged, or some
//! blocks of this instance and the rest in another. Weights are never passed: the guest
//! finds them through `memory64_map_layer`.
//!
//! Order of calls: [`export::ALLOC`], write the descriptor there, [`export::INIT`]; then for
//! each batch write token ids at [`export::TOKENS`], call [`export::EMBED`],
//! [`export::BLOCKS`] and [`export::HEAD`], and read [`export::LOGITS`].
//!
//! A call may be stopped at any instruction: by a trap, or by the engine when its time is over.
//! Then, and where a stage was refused, the host calls [`export::RESTART`] before the next batch.
//!
//! Pointers and lengths are `i32` on wasm32 and `i64` on wasm64; everything else is `i32`.
//! Functions that return a status return 0 or a negative [`status`].

use crate::network::Sizes;
pub use crate::network::{feature, role};

/// Names of the guest's exports.
pub mod export {
    /// The guest's linear memory.
    pub const MEMORY: &str = "memory";
    /// `() -> i32`: the [`VERSION`](super::VERSION) that the guest was built with.
    pub const VERSION: &str = "transformer_version";
    /// `(bytes) -> ptr`: 16-byte aligned memory that is never freed, or null.
    pub const ALLOC: &str = "transformer_alloc";
    /// `(ptr, len) -> status`: takes a [`Descriptor`](super::Descriptor) followed by its
    /// [`Rope`](super::Rope)s, [`Block`](super::Block)s and [`Tensor`](super::Tensor)s, checks
    /// them, and allocates caches and activations.
    pub const INIT: &str = "transformer_init";
    /// `() -> ptr`: `u32[batch]`, where the host writes token ids.
    pub const TOKENS: &str = "transformer_tokens";
    /// `() -> ptr`: `f32[batch][dim]`, the hidden state between stages.
    pub const HIDDEN: &str = "transformer_hidden";
    /// `() -> ptr`: `f32[batch][carried]`, what [`EMBED`] has made for blocks beside the hidden state;
    /// a host that moves that from one guest to another moves this, too.
    pub const CARRIED: &str = "transformer_carried";
    /// `() -> ptr`: `f32[vocab]`, the result of [`HEAD`].
    pub const LOGITS: &str = "transformer_logits";
    /// `(n: i32) -> status`: hidden state of the first `n` tokens from the embedding.
    pub const EMBED: &str = "transformer_embed";
    /// `(first: i32, count: i32, position: i32, n: i32) -> status`: runs blocks
    /// `first..first + count` over `n` rows of hidden state, whose first row is at
    /// `position` in the sequence, and appends their keys and values to the cache.
    ///
    /// A block that has a state beside keys and values can go on where it is, or begin anew at
    /// position 0: a state cannot be cut. One with a window can go back as far as its cache still has
    /// what the window needs. Else the call is refused by [`STATE_LOST`](super::status::STATE_LOST),
    /// and the host evaluates the sequence again from its beginning.
    pub const BLOCKS: &str = "transformer_blocks";
    /// `(block: i32, position: i32, n: i32) -> status`: the first part of a block, its attention,
    /// so that a host can see where the time goes; [`FEED_FORWARD`] must follow. Both together do
    /// what [`BLOCKS`] does with one block.
    pub const ATTENTION: &str = "transformer_attention";
    /// `(block: i32, n: i32) -> status`: the second part of a block.
    pub const FEED_FORWARD: &str = "transformer_feed_forward";
    /// `(block: i32, n: i32) -> status`: the first part of [`ATTENTION`], which needs each row alone, over
    /// `n` rows that may be of sequences in other instances. For each row, [`MIX`] follows in the
    /// instance that has its sequence, and then [`LEAVE_ATTENTION`] here.
    pub const ENTER_ATTENTION: &str = "transformer_enter_attention";
    /// `(block: i32, position: i32) -> status`: the part of [`ATTENTION`] where the positions of a
    /// sequence meet, for one row, which the host has put where [`MIXED_ROWS`] says for one row.
    pub const MIX: &str = "transformer_mix";
    /// `(block: i32, n: i32) -> status`: the last part of [`ATTENTION`], which needs each row alone
    /// again. The host has put there what [`MIX`] gave for each.
    pub const LEAVE_ATTENTION: &str = "transformer_leave_attention";
    /// `(block: i32, n: i32, index: i32) -> ptr`: a description of one of the things that [`MIX`] gets
    /// or gives, in the places that they have where there are `n` rows, as a
    /// [`MixedRows`](super::MixedRows) that is valid until the next call; null behind the last of them.
    /// Places of the first row of what it gets are the same for any `n`.
    pub const MIXED_ROWS: &str = "transformer_mixed_rows";
    /// `(n: i32, first: i32, count: i32) -> status`: some of the logits of the first `n` rows of hidden
    /// state, those of `count` tokens from number `first` on. At most half as many floats as the hidden
    /// state of a batch has.
    pub const HEADS: &str = "transformer_heads";
    /// `() -> ptr`: `f32[n][count]`, the result of [`HEADS`] until the next call.
    pub const HEAD_ROWS: &str = "transformer_head_rows";
    /// `(block: i32, n: i32) -> status`: the beginning of [`FEED_FORWARD`] in a block with experts,
    /// whose layers need not be there yet: each of `n` rows chooses its experts. Then
    /// [`EXPERTS`] must follow until all that were chosen have computed, and [`COMBINE`], with no other
    /// stage between them.
    pub const ROUTE: &str = "transformer_route";
    /// `() -> ptr`: `u32[n][experts_used]`, the experts that the rows of [`ROUTE`] have chosen.
    pub const CHOICES: &str = "transformer_choices";
    /// `(block: i32, end: i32) -> status`: lets the experts compute that were chosen, have not computed
    /// yet, and have numbers below `end`.
    pub const EXPERTS: &str = "transformer_experts";
    /// `(block: i32) -> status`: the end of [`FEED_FORWARD`] in a block with experts.
    pub const COMBINE: &str = "transformer_combine";
    /// `(row: i32) -> status`: logits of one row of hidden state.
    pub const HEAD: &str = "transformer_head";
    /// `(n: i32) -> status`: the norm that [`HEAD`] begins with, of `n` rows of hidden state, in their
    /// place; nothing for a network without it.
    pub const FINISH: &str = "transformer_finish";
    /// `() -> status`: the first row of hidden state, multiplied by `dense_2` and then by `dense_3`,
    /// is where [`LOGITS`] says. Refused by a network that has neither.
    pub const DENSE: &str = "transformer_dense";
    /// `(position: i32) -> status`: makes the guest usable after a call that was stopped, wherever
    /// that was. The cache has `position` positions then, of those that were complete before the
    /// stopped call; it may not be called while another call runs.
    pub const RESTART: &str = "transformer_restart";
    /// `(index: i32) -> ptr`: a description of one of the caches that this instance holds, as a
    /// [`CacheRows`](super::CacheRows) that is valid until the next call; null behind the last of
    /// them. Addresses never change after [`INIT`]. An instance without blocks has no caches.
    pub const CACHE: &str = "transformer_cache";
    /// `(position: i32) -> status`: the cache of each block has `position` positions now, whatever
    /// it had before: the host has put them where [`CACHE`] says.
    pub const RESUME: &str = "transformer_resume";
    /// `(bytes: i32) -> status`: from now on, products with one row of hidden state touch the weights
    /// that they read ahead of their use, this many bytes at once; 0, with which an instance begins, is
    /// not at all. It changes speed, and no result. A guest need not have it.
    pub const TOUCH_AHEAD: &str = "transformer_touch_ahead";
    /// `(type: i32, src: ptr, dst: ptr, n: ptr) -> status`: expands `n` weights of a
    /// [`ggml_type`](super::ggml_type) to `f32`; for checking kernels against ggml.
    pub const DEQUANTIZE: &str = "kernel_dequantize";
    /// `(type: i32, w: ptr, rows: i32, cols: i32, x: ptr, n: i32, y: ptr) -> status`:
    /// `y[n][rows] = x[n][cols] * w[rows][cols]^T`; for checking and measuring kernels.
    pub const MATMUL: &str = "kernel_matmul";
    /// [`MATMUL`] with [`INT8`](super::activations::INT8) activations.
    pub const MATMUL_INT8: &str = "kernel_matmul_int8";
}

/// Version of this contract; a host refuses a guest with another one.
pub const VERSION: i32 = 12;

/// What the guest's exports return when they refuse.
pub mod status {
    /// Done.
    pub const OK: i32 = 0;
    /// The descriptor has another version, length or count than the guest expects.
    pub const BAD_DESCRIPTOR: i32 = -101;
    /// A size is zero, does not divide, or overflows.
    pub const BAD_SHAPE: i32 = -102;
    /// A tensor that the network needs is missing or given twice, or one is given that a network
    /// of these features does not have.
    pub const MISSING_TENSOR: i32 = -103;
    /// A tensor has a type that the guest has no kernel for.
    pub const UNSUPPORTED_TYPE: i32 = -104;
    /// The guest's memory cannot grow by what caches and activations need.
    pub const OUT_OF_MEMORY: i32 = -105;
    /// A call names more rows than the batch, or zero.
    pub const BAD_BATCH: i32 = -106;
    /// A call goes beyond the context.
    pub const CONTEXT_FULL: i32 = -107;
    /// A token id is not in the vocabulary.
    pub const BAD_TOKEN: i32 = -108;
    /// A call names blocks that this instance does not hold.
    pub const BAD_BLOCK: i32 = -109;
    /// A call came before [`INIT`](super::export::INIT), `INIT` came twice, or a call was stopped
    /// and [`RESTART`](super::export::RESTART) has not been called since.
    pub const BAD_ORDER: i32 = -110;
    /// `memory64_map_layer` refused; the host's statistics and log say why.
    pub const LAYER_REFUSED: i32 = -111;
    /// `all_gather` refused, as it does when another rank has failed.
    pub const GATHER_REFUSED: i32 = -112;
    /// The descriptor has a [`feature`](super::feature) that the guest does not know.
    pub const UNKNOWN_FEATURE: i32 = -113;
    /// A factor that rotary frequencies are divided by is not finite, or not above zero.
    pub const BAD_FACTORS: i32 = -114;
    /// A block was to go on at a position before which it does not have everything any more.
    pub const STATE_LOST: i32 = -115;
}

/// How activations are multiplied with quantized weights.
pub mod activations {
    /// Activations stay 32-bit floats.
    pub const F32: u32 = 0;
    /// Quantized to 8 bits in blocks, as ggml does it, for integer products; where weights are
    /// floats, as they are.
    pub const INT8: u32 = 1;
}

/// What the rows of a cache are: [`CacheRows::part`].
pub mod cache_part {
    /// Keys, rotated.
    pub const KEYS: u32 = 0;
    /// Values.
    pub const VALUES: u32 = 1;
    /// The matrices of a delta net, one for each head; there is one row of them, of the last
    /// position.
    pub const MATRICES: u32 = 2;
    /// What went into a convolution at the last positions, for each channel, which is a head here;
    /// there is one row, of the last position.
    pub const TAPS: u32 = 3;
}

/// Tensor types by their number in ggml (`enum ggml_type` of ggml.h).
pub mod ggml_type {
    /// 32-bit float.
    pub const F32: u32 = 0;
    /// 16-bit float.
    pub const F16: u32 = 1;
    /// 32 weights in 18 bytes: f16 scale, 4-bit values minus 8.
    pub const Q4_0: u32 = 2;
    /// 32 weights in 20 bytes: f16 scale and minimum, 4-bit values.
    pub const Q4_1: u32 = 3;
    /// 32 weights in 22 bytes: f16 scale, 5-bit values minus 16.
    pub const Q5_0: u32 = 6;
    /// 32 weights in 24 bytes: f16 scale and minimum, 5-bit values.
    pub const Q5_1: u32 = 7;
    /// 32 weights in 34 bytes: f16 scale, signed 8-bit values.
    pub const Q8_0: u32 = 8;
    /// 256 weights in 84 bytes: 16 groups with 4-bit scale and minimum, 2-bit values.
    pub const Q2_K: u32 = 10;
    /// 256 weights in 110 bytes: 16 groups with 6-bit scale, 3-bit values minus 4.
    pub const Q3_K: u32 = 11;
    /// 256 weights in 144 bytes: 8 groups with 6-bit scale and minimum, 4-bit values.
    pub const Q4_K: u32 = 12;
    /// 256 weights in 176 bytes: 8 groups with 6-bit scale and minimum, 5-bit values.
    pub const Q5_K: u32 = 13;
    /// 256 weights in 210 bytes: 16 groups with 8-bit scale, 6-bit values minus 32.
    pub const Q6_K: u32 = 14;
    /// 256 weights in 66 bytes: 8 groups with 4-bit scale, entries of a table of 256.
    pub const IQ2_XXS: u32 = 16;
    /// 256 weights in 74 bytes: 16 groups with 4-bit scale, entries of a table of 512.
    pub const IQ2_XS: u32 = 17;
    /// 256 weights in 98 bytes: 8 groups with 4-bit scale, entries of a table of 256.
    pub const IQ3_XXS: u32 = 18;
    /// 256 weights in 50 bytes: 8 groups with 3-bit scale, entries of a table of 2,048.
    pub const IQ1_S: u32 = 19;
    /// 32 weights in 18 bytes: f16 scale, 4-bit numbers of 16 values that are not evenly spaced.
    pub const IQ4_NL: u32 = 20;
    /// 256 weights in 110 bytes: 8 groups with 4-bit scale, entries of a table of 512.
    pub const IQ3_S: u32 = 21;
    /// 256 weights in 82 bytes: 16 groups with 4-bit scale, entries of a table of 1,024.
    pub const IQ2_S: u32 = 22;
    /// 256 weights in 136 bytes: 8 groups with 6-bit scale, values as in [`IQ4_NL`].
    pub const IQ4_XS: u32 = 23;
    /// 256 weights in 56 bytes: 16 groups with 3-bit scale, entries of a table of 2,048.
    pub const IQ1_M: u32 = 29;
    /// The upper half of a 32-bit float.
    pub const BF16: u32 = 30;
    /// 256 weights in 54 bytes: f16 scale, values of -1 to 1, five in a byte.
    pub const TQ1_0: u32 = 34;
    /// 256 weights in 66 bytes: f16 scale, 2-bit values minus 1.
    pub const TQ2_0: u32 = 35;
    /// 32 weights in 17 bytes: the exponent of a scale, 4-bit floats.
    pub const MXFP4: u32 = 39;
}

/// Declares a `#[repr(C)]` structure of numbers together with its bytes, so that the list of
/// fields stands once.
macro_rules! structure {
    ($(#[$meta:meta])* pub struct $name:ident {
        $($(#[$doc:meta])* pub $field:ident: $kind:ident,)*
    }) => {
        $(#[$meta])*
        #[repr(C)]
        #[derive(Clone, Copy, Debug, Default, PartialEq)]
        pub struct $name {
            $($(#[$doc])* pub $field: $kind,)*
        }

        impl $name {
            /// Size of the structure in bytes.
            pub const SIZE: usize = size_of::<Self>();

            /// The structure as the little-endian bytes that the guest takes.
            #[must_use]
            pub fn to_le_bytes(&self) -> [u8; Self::SIZE] {
                const { assert!(0 $(+ size_of::<$kind>())* == Self::SIZE, "no padding") };
                let mut bytes = [0; Self::SIZE];
                let mut at = 0;
                $(bytes[at..at + size_of::<$kind>()].copy_from_slice(&self.$field.to_le_bytes());
                at += size_of::<$kind>();)*
                let _ = at;
                bytes
            }

            /// The structure that these bytes are.
            #[must_use]
            pub fn from_le_bytes(bytes: &[u8; Self::SIZE]) -> Self {
                let mut rest = &bytes[..];
                // Fields of a struct expression are evaluated as written.
                let all = Self {
                    $($field: rest.split_first_chunk().map_or($kind::default(), |(field, others)| {
                        rest = others;
                        $kind::from_le_bytes(*field)
                    }),)*
                };
                let _ = rest;
                all
            }
        }
    };
}

/// How the outputs of a router become the weights of the experts that are chosen.
pub mod gating {
    /// The softmax of all; the largest are chosen.
    pub const SOFTMAX: u32 = 1;
    /// The logistic function of each; the largest are chosen.
    pub const SIGMOID: u32 = 2;
    /// The largest are chosen, and then the softmax of these is taken.
    pub const SOFTMAX_OF_CHOSEN: u32 = 3;
    /// The largest are chosen, and then the logistic function of each of these is taken.
    pub const SIGMOID_OF_CHOSEN: u32 = 4;
}

structure! {
    /// Shape of the network, and how much of it this guest instance holds.
    ///
    /// Sizes count elements unless they say otherwise.
    ///
    /// ```
    /// use polychord_abi::transformer::{Descriptor, VERSION};
    ///
    /// let descriptor = Descriptor { version: VERSION as u32, vocab: 49_152, ..Descriptor::default() };
    /// assert_eq!(descriptor.to_le_bytes()[..4], VERSION.to_le_bytes());
    /// ```
    pub struct Descriptor {
        /// [`VERSION`], as `u32`.
        pub version: u32,
        /// Number of [`Rope`]s that follow: at most [`MOST_ROPES`].
        pub ropes: u32,
        /// Number of [`Block`]s that this instance holds, and that follow them.
        pub blocks: u32,
        /// Number of [`Tensor`]s that follow those.
        pub tensors: u32,
        /// What the network has or does beyond the common ground, but for its blocks: bits of
        /// [`feature`].
        pub features: u64,
        /// First block that this instance holds.
        pub first_block: u32,
        /// Token ids are below this.
        pub vocab: u32,
        /// Width of the hidden state (`embedding_length`).
        pub dim: u32,
        /// Positions in the key-value cache.
        pub context: u32,
        /// Most rows of hidden state in one call.
        pub batch: u32,
        /// Added to the mean square, or to the variance, before its root
        /// (`attention.layer_norm_rms_epsilon`, `attention.layer_norm_epsilon`).
        pub epsilon: f32,
        /// What rows of the embedding are multiplied by.
        pub embedding_scale: f32,
        /// What the results of attention and feed-forward are multiplied by, before they are added.
        pub residual_scale: f32,
        /// What logits are multiplied by.
        pub logit_scale: f32,
        /// Logits are kept within this by `cap * tanh(logit / cap)`; 0 for none.
        pub logit_cap: f32,
        /// One of [`activations`].
        pub activations: u32,
        /// Address of the host's memory for keys and values, or 0 if the guest is to allocate it:
        /// for each block that has them `[2][kv_heads][positions][head_dim]` numbers of `cache_type`,
        /// with the heads of this rank alone; `[1]` with [`feature::LATENT`]. These are the low 32
        /// bits ...
        pub cache_low: u32,
        /// ... and the high ones.
        pub cache_high: u32,
        /// How keys and values are stored: [`ggml_type::F32`]; or [`ggml_type::F16`], to which they are
        /// rounded (ties to even; beyond what is finite, to the largest finite one); or
        /// [`ggml_type::Q8_0`], which needs rows of whole blocks, and no more than
        /// [`MOST_IN_ROW`](crate::buffers::MOST_IN_ROW) numbers.
        pub cache_type: u32,
        /// Which of several instances that compute the same blocks together this one is. Each computes
        /// some rows of every product and some heads, and gets the others' by `all_gather`.
        pub rank: u32,
        /// How many of them there are; 1 for an instance that computes all, and never gathers.
        pub ranks: u32,
        /// With [`feature::LAYER_INPUTS`], the width of what one block gets, ...
        pub layer_input: u32,
        /// ... and that of all blocks of the network, one after the other.
        pub carried: u32,
    }
}

/// Most [`Rope`]s of a network.
pub const MOST_ROPES: u32 = 4;

structure! {
    /// How queries and keys are rotated by their position.
    ///
    /// The angle of pair `i` is the position times `base^(-2i / dim)`, divided by the factor of the
    /// pair if there are `factors`; between `yarn_low` and `yarn_high`, more and more of it is
    /// multiplied by `scale`.
    pub struct Rope {
        /// How many of a head's elements are rotated (`rope.dimension_count`); even.
        pub dim: u32,
        /// Whether element `i` of a head is turned with element `i + dim / 2` (1, NEOX), or
        /// element `2 * i` with `2 * i + 1` (0, NORM).
        pub halves: u32,
        /// The [`role`] of the factors that frequencies are divided by, or [`NO_FACTORS`].
        pub factors: u32,
        /// Base of the frequencies (`rope.freq_base`).
        pub base: f32,
        /// Angles are multiplied by this (1, or 1/factor of linear scaling and YaRN).
        pub scale: f32,
        /// YaRN: pairs before this one are not scaled.
        pub yarn_low: f32,
        /// YaRN: pairs from this one on are scaled in full. Below 0: all are, without YaRN.
        pub yarn_high: f32,
        /// Cosines and sines are multiplied by this.
        pub magnitude: f32,
    }
}

/// [`Rope::factors`] where frequencies are not divided.
pub const NO_FACTORS: u32 = u32::MAX;
/// [`Block::rope`] where queries and keys are not rotated.
pub const NO_ROPE: u32 = u32::MAX;

structure! {
    /// One block of the network.
    pub struct Block {
        /// What it has or does beyond the common ground: bits of [`feature`].
        pub features: u64,
        /// Query heads (`attention.head_count`).
        pub heads: u32,
        /// Key and value heads (`attention.head_count_kv`); divides `heads`.
        pub kv_heads: u32,
        /// Width of one head (`attention.key_length`).
        pub head_dim: u32,
        /// Width of the feed-forward part (`feed_forward_length`); 0 with [`feature::EXPERTS`].
        pub ffn: u32,
        /// How many positions, the last ones, are attended to; 0 for all. With
        /// [`feature::CHUNKS`], those since the last multiple of this.
        pub window: u32,
        /// The number of its [`Rope`], or [`NO_ROPE`].
        pub rope: u32,
        /// What products of queries and keys are multiplied by.
        pub attention_scale: f32,
        /// They are kept within this by `cap * tanh(score / cap)`; 0 for none.
        pub attention_cap: f32,
        /// Queries are multiplied by `1 + temperature * ln(1 + floor((position +
        /// temperature_offset) / temperature_length))`.
        pub temperature: f32,
        /// Added to the position.
        pub temperature_offset: u32,
        /// Positions for which the temperature is the same; not 0 if there is a temperature.
        pub temperature_length: u32,

        /// Number of experts; 0 without [`feature::EXPERTS`], like those that follow.
        pub experts: u32,
        /// How many of them each token chooses.
        pub experts_used: u32,
        /// Width of one expert (`expert_feed_forward_length`).
        pub expert_ffn: u32,
        /// Width of the expert that serves all tokens.
        pub shared_ffn: u32,
        /// One of [`gating`].
        pub gating: u32,
        /// What the experts' weights are multiplied by.
        pub expert_scale: f32,
        /// Equal parts that experts are in, one after the other, if more than 1; at most
        /// [`MOST_GROUPS`].
        pub expert_groups: u32,
        /// How many of them a token chooses from: those whose two best experts are best together.
        pub expert_groups_used: u32,

        /// How many positions its cache has room for: the row of position `p` is the one of number
        /// `p % positions`. 0 if it has a state in place of a cache; with [`feature::SHARED_KEYS`],
        /// what the other block has.
        pub positions: u32,
        /// The block, by its number in the network, whose keys and values it uses with
        /// [`feature::SHARED_KEYS`]; else 0.
        pub keys_of: u32,
        /// How many positions a convolution takes, the newest included: 2 to [`MOST_TAPS`], or 0.
        pub taps: u32,
        /// Width of the vector that queries are made of, with [`feature::LOW_RANK_QUERIES`]; else 0.
        pub query_rank: u32,
        /// Width of the vector that keys and values are made of, with [`feature::LATENT`]; else 0,
        /// like those that follow. The head's other elements are rotated.
        pub latent_rank: u32,
        /// Width of the part of queries and keys that is not rotated.
        pub plain_dim: u32,
        /// Width of the values of a head.
        pub value_dim: u32,
    }
}

/// Most [`Block::expert_groups`].
pub const MOST_GROUPS: u32 = 64;
/// Most [`Block::taps`].
pub const MOST_TAPS: u32 = 16;

impl Descriptor {
    /// The numbers that the sizes of tensors outside of blocks follow from; they rotate as the
    /// first of all ropes does.
    #[must_use]
    pub fn sizes(&self, rope_dim: u32) -> Sizes {
        let Self { vocab, dim, layer_input, carried, features, .. } = *self;
        Sizes { vocab, dim, rope_dim, layer_input, carried, features, ..Sizes::default() }
    }
}

impl Block {
    /// The numbers that the sizes of its tensors and buffers follow from, in a network of which this
    /// is what is outside of blocks.
    #[must_use]
    pub const fn sizes(&self, network: &Sizes) -> Sizes {
        let Self { ffn, heads, kv_heads, head_dim, .. } = *self;
        let Self { experts, experts_used, expert_ffn, shared_ffn, .. } = *self;
        let Self { features, positions, taps, .. } = *self;
        let Self { query_rank, latent_rank, plain_dim, value_dim, .. } = *self;
        let Sizes { vocab, dim, rope_dim, layer_input, carried, .. } = *network;
        Sizes {
            vocab,
            dim,
            ffn,
            heads,
            kv_heads,
            head_dim,
            rope_dim,
            experts,
            experts_used,
            expert_ffn,
            shared_ffn,
            layer_input,
            carried,
            taps,
            query_rank,
            latent_rank,
            plain_dim,
            value_dim,
            positions,
            features,
        }
    }
}

structure! {
    /// Where one tensor is, and how it is stored.
    ///
    /// ```
    /// use polychord_abi::transformer::{Tensor, ggml_type, role};
    ///
    /// let norm = Tensor {
    ///     role: role::OUTPUT_NORM, kind: ggml_type::F32, rows: 1, cols: 576, ..Tensor::default()
    /// };
    /// assert_eq!(Tensor::from_le_bytes(&norm.to_le_bytes()), norm);
    /// ```
    pub struct Tensor {
        /// A [`role`].
        pub role: u32,
        /// The block it belongs to; 0 for tensors outside of blocks.
        pub block: u32,
        /// Id of the registered layer that holds its bytes.
        pub layer: u32,
        /// A [`ggml_type`].
        pub kind: u32,
        /// Rows (outputs); 1 for a vector.
        pub rows: u32,
        /// Elements of a row (inputs), stored contiguously.
        pub cols: u32,
        /// How many layers its rows are divided among evenly: 1, or one for each expert.
        pub pieces: u32,
        /// What is added to `layer` for each further one.
        pub step: u32,
        /// Bytes from the layer's first byte to the tensor's, in each of its layers.
        pub offset: u64,
    }
}

structure! {
    /// Where the keys or the values of one block are, or another part of what it keeps: for each head a
    /// row for each of the last positions.
    ///
    /// The row of position `p` of the `h`-th head here is at `address + h * stride +
    /// (p % positions) * row_bytes`.
    /// What a row means depends on the block, the part, the head, and the type of the cache; not on
    /// the context, the placement, or the number of ranks. So rows may go into another instance
    /// that holds the same block and head, at the same position.
    ///
    /// ```
    /// use polychord_abi::transformer::{CacheRows, cache_part};
    ///
    /// let keys = CacheRows {
    ///     address: 1 << 20, stride: 64 * 256, row_bytes: 256, block: 3, part: cache_part::KEYS,
    ///     first_head: 0, heads: 3, positions: 64,
    /// };
    /// // The fifth position of the last head.
    /// assert_eq!(keys.address + 2 * keys.stride + 4 * 256, (1 << 20) + 33_792);
    /// assert_eq!(CacheRows::from_le_bytes(&keys.to_le_bytes()), keys);
    /// ```
    pub struct CacheRows {
        /// Address of the first row. In a guest that exports several 32-bit memories, bits 32 and
        /// up are the index of the memory, as for layers.
        pub address: u64,
        /// Bytes from a head to the next.
        pub stride: u64,
        /// Bytes of one row; rows of a head follow each other.
        pub row_bytes: u32,
        /// The block, by its number in the network.
        pub block: u32,
        /// One of [`cache_part`].
        pub part: u32,
        /// The first head that is here, by its number in the block.
        pub first_head: u32,
        /// How many heads there are; several ranks may hold the same ones.
        pub heads: u32,
        /// How many positions there is room for: of more, the last ones are there.
        pub positions: u32,
    }
}

structure! {
    /// Rows of what [`MIX`](export::MIX) gets or gives: one for each row of a call, one after the other.
    ///
    /// What a row means does not depend on the instance, so that it may go from one that holds the same
    /// block, as the same rank, to another.
    ///
    /// ```
    /// use polychord_abi::transformer::MixedRows;
    ///
    /// let queries = MixedRows { address: 1 << 20, row_bytes: 2_304, is_result: 0 };
    /// assert_eq!(MixedRows::from_le_bytes(&queries.to_le_bytes()), queries);
    /// ```
    pub struct MixedRows {
        /// Address of the first row, in the memory that has the hidden state.
        pub address: u64,
        /// Bytes of each; 0 if there is nothing.
        pub row_bytes: u32,
        /// 1 for what it gives, 0 for what it gets.
        pub is_result: u32,
    }
}

//! How large everything is that a guest allocates for a network: the guest takes its buffers'
//! lengths from here, and the host plans with their sum.

use crate::network::{Size, Sizes, feature};
use crate::transformer::ggml_type;

/// Numbers of elements of a guest's buffers, none of which grows later.
///
/// ```
/// use polychord_abi::buffers::{Buffers, Run};
/// use polychord_abi::network::Sizes;
///
/// let sizes = Sizes {
///     vocab: 49_152, dim: 576, ffn: 1_536, heads: 9, kv_heads: 3, head_dim: 64, rope_dim: 64,
///     positions: 2_048, ..Sizes::default()
/// };
/// let run = Run { context: 2_048, batch: 32, integers: true };
/// let buffers = Buffers::new(&sizes, &run).and_then(|buffers| buffers.with_block(&sizes, 3, &run));
/// let buffers = buffers.expect("no size overflows");
/// assert_eq!(buffers.logits, 49_152);
/// assert_eq!(buffers.cache, 3 * 64 * 2_048);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Buffers {
    /// `u32`: token ids of a batch.
    pub tokens: u64,
    /// `f32`, for each of three buffers: a batch of hidden state.
    pub hidden: u64,
    /// `f32`, for each of two: a batch of queries, or what they have attended to.
    pub queries: u64,
    /// `f32`, for each of two: a batch of keys, or of values.
    pub keys: u64,
    /// `f32`, for each of two: a batch of the feed-forward part.
    pub ffn: u64,
    /// `f32`: a context of scores for each row and query head that are computed at once.
    pub scores: u64,
    /// `f32`: rows of weights that are expanded.
    pub scratch: u64,
    /// `f32`: logits of one row.
    pub logits: u64,
    /// `f64`, for each rope: rotary frequencies.
    pub frequencies: u64,
    /// `f32`, for each rope: cosines and sines for a batch.
    pub rotations: u64,
    /// Of experts.
    pub experts: Experts,
    /// What activations of 8 bits take, if they are.
    pub integers: Option<Integers>,
    /// `f32`, for each of two: what a part of a network that not all have needs in between.
    pub mixed: u64,
    /// `f32`: what blocks get beside the hidden state, of a batch.
    pub carried: u64,
    /// Numbers of the cache's type: keys of the block that has most of them, or values.
    pub cache: u64,
}

/// What one block keeps of the sequence.
///
/// ```
/// use polychord_abi::buffers::Kept;
/// use polychord_abi::network::Sizes;
/// use polychord_abi::transformer::ggml_type;
///
/// let sizes = Sizes { heads: 9, kv_heads: 3, head_dim: 64, positions: 2_048, ..Sizes::default() };
/// let kept = Kept::new(&sizes, 9, 3).expect("no size overflows");
/// // Keys and values, as 32-bit floats: 3 MiB; and no state.
/// assert_eq!(kept.cache_bytes(ggml_type::F32), Some(2 * 3 * 64 * 2_048 * 4));
/// assert_eq!(kept.cache_bytes(ggml_type::Q8_0), Some(2 * 3 * 64 * 2_048 / 32 * 34));
/// assert_eq!(kept.state_bytes(), Some(0));
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Kept {
    /// Numbers of the cache's type in each of its parts.
    pub part: u64,
    /// Parts of the cache: keys and values, keys alone, or none.
    pub parts: u64,
    /// `f32`: for each channel of a convolution, what went in last.
    pub taps: u64,
    /// `f32`: for each head of a delta net, a matrix.
    pub matrices: u64,
}

impl Kept {
    /// What a block keeps of which this guest computes these heads, and key and value heads;
    /// none if it overflows.
    #[must_use]
    pub fn new(sizes: &Sizes, heads: u32, kv_heads: u32) -> Option<Self> {
        let (dim, taps) = (u64::from(sizes.head_dim), u64::from(sizes.taps.saturating_sub(1)));
        let none = Self::default();
        if sizes.has(feature::SHORT_CONV) {
            return Some(Self { taps: u64::from(heads).checked_mul(taps)?, ..none });
        }
        if sizes.has(feature::DELTA_NET) {
            return Some(Self {
                // All of them on each rank.
                taps: u64::from(sizes.get(Size::FusedRows)?).checked_mul(taps)?,
                matrices: u64::from(heads).checked_mul(dim.checked_mul(dim)?)?,
                ..none
            });
        }
        if sizes.has(feature::SHARED_KEYS) {
            return Some(none);
        }
        let parts = if sizes.has(feature::LATENT) { 1 } else { 2 };
        let row = u64::from(kv_heads).checked_mul(dim)?;
        Some(Self { part: row.checked_mul(sizes.positions.into())?, parts, ..none })
    }

    /// Bytes of keys and values in a cache of this type ([`ggml_type`]); none if they overflow, or
    /// are no whole blocks.
    #[must_use]
    pub fn cache_bytes(&self, cache_type: u32) -> Option<u64> {
        cache_bytes(cache_type, self.part)?.checked_mul(self.parts)
    }

    /// Bytes of what is no cache of keys and values; none if they overflow.
    #[must_use]
    pub fn state_bytes(&self) -> Option<u64> {
        self.taps.checked_add(self.matrices)?.checked_mul(4)
    }
}

/// Numbers of a block in which a cache of this type ([`ggml_type`]) stores them, and its bytes; none
/// for a type that a cache cannot have.
///
/// ```
/// use polychord_abi::buffers::cache_block;
/// use polychord_abi::transformer::ggml_type;
///
/// assert_eq!(cache_block(ggml_type::F16), Some((1, 2)));
/// assert_eq!(cache_block(ggml_type::Q8_0), Some((32, 34)));
/// assert_eq!(cache_block(ggml_type::Q4_0), None);
/// ```
#[must_use]
pub const fn cache_block(cache_type: u32) -> Option<(u64, u64)> {
    match cache_type {
        ggml_type::F32 => Some((1, 4)),
        ggml_type::F16 => Some((1, 2)),
        ggml_type::Q8_0 => Some((BLOCK as u64, 34)),
        _ => None,
    }
}

/// Bytes that a number of numbers takes in a cache; none if it overflows, or is no whole blocks.
#[must_use]
pub const fn cache_bytes(cache_type: u32, numbers: u64) -> Option<u64> {
    match cache_block(cache_type) {
        Some((block, bytes)) if numbers.is_multiple_of(block) => {
            (numbers / block).checked_mul(bytes)
        }
        _ => None,
    }
}

/// Most numbers of a row of a cache in blocks of more than one: of the keys of a head.
pub const MOST_IN_ROW: u32 = 1024;

/// How many positions the cache of a block has room for: all, or with a window as many as it
/// sees, and a batch more, so that the last few can be taken back.
///
/// ```
/// use polychord_abi::buffers::{Run, positions};
///
/// let run = Run { context: 4_096, batch: 32, integers: true };
/// assert_eq!((positions(0, &run), positions(512, &run)), (4_096, 544));
/// ```
#[must_use]
pub const fn positions(window: u32, run: &Run) -> u32 {
    let needed = window.saturating_add(run.batch);
    if window == 0 || needed > run.context { run.context } else { needed }
}

/// Numbers of elements for experts; zero if there are none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Experts {
    /// `f32`: for a batch, what experts are chosen by.
    pub routes: u64,
    /// `u32` and `f32`, two of the first and one of the other: choices of a batch.
    pub choices: u64,
    /// `f32`, for each of two: a row of hidden state for each choice.
    pub rows: u64,
    /// `f32`, for each of two: the width of an expert for each choice.
    pub widths: u64,
}

/// Numbers of elements for products with activations of 8 bits.
///
/// ```
/// use polychord_abi::buffers::Integers;
///
/// // 32 rows of 576 activations: 5 groups of 128 each, the last one in part.
/// let room = Integers::new(32, 576).expect("it does not overflow");
/// assert_eq!(room.groups, 32 * 5);
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Integers {
    /// Groups of [`GROUP`] activations.
    pub groups: u64,
    /// Superblocks of [`SUPER`] activations.
    pub supers: u64,
    /// Blocks of [`BLOCK`] weights of each of [`HEIGHT`] rows that are unpacked.
    pub unpacked_blocks: u64,
    /// Superblocks of weights of each of as many rows.
    pub unpacked_supers: u64,
}

/// How a guest runs a network.
///
/// ```
/// use polychord_abi::buffers::Run;
///
/// let run = Run { context: 4_096, batch: 32, integers: true };
/// assert!(run.batch <= run.context);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Run {
    /// Positions of the cache.
    pub context: u32,
    /// Most rows of a call.
    pub batch: u32,
    /// Whether activations are quantized.
    pub integers: bool,
}

/// Weights or activations of a block.
pub const BLOCK: usize = 32;
/// Activations of a group.
pub const GROUP: usize = 128;
/// Weights or activations of a superblock.
pub const SUPER: usize = 256;
/// Columns of activations that are stored together.
pub const COLUMNS: usize = 4;
/// Rows of weights that are unpacked together.
pub const HEIGHT: usize = 4;
/// Query heads whose scores are computed at once.
pub const HEADS: usize = 4;
/// Rows of a batch whose scores are computed at once.
pub const ROWS: usize = 4;
/// Fewest floats of the scratch: expanded rows that fit well into a first-level cache beside columns.
pub const SCRATCH: usize = 4096;

/// Most bytes of one element of each field of [`Integers`], in its order: some builds of the guest
/// need less.
pub const INTEGER_BYTES: &[usize] = &[304, 560, 288, 3712];

impl Buffers {
    /// The buffers of a guest that holds no block yet; none if a size overflows.
    #[must_use]
    pub fn new(sizes: &Sizes, run: &Run) -> Option<Self> {
        let (batch, dim) = (u64::from(run.batch), u64::from(sizes.dim));
        Some(Self {
            tokens: batch,
            hidden: batch.checked_mul(dim)?,
            queries: 0,
            keys: 0,
            ffn: 0,
            scores: 0,
            scratch: scratch(dim),
            logits: sizes.vocab.into(),
            frequencies: u64::from(sizes.rope_dim / 2),
            rotations: batch.checked_mul(sizes.rope_dim.into())?,
            experts: Experts::default(),
            integers: match run.integers {
                true => Some(Integers::new(batch, dim)?),
                false => None,
            },
            mixed: batch.checked_mul(sizes.carried.into())?,
            carried: batch.checked_mul(sizes.carried.into())?,
            cache: 0,
        })
    }

    /// Makes room for one more block, of which this guest computes `kv_heads` key and value heads:
    /// all, unless it is one of several ranks. Buffers are as large as any block needs.
    #[must_use]
    pub fn with_block(self, sizes: &Sizes, kv_heads: u32, run: &Run) -> Option<Self> {
        let (batch, positions) = (u64::from(run.batch), u64::from(sizes.positions));
        let (dim, ffn) = (u64::from(sizes.dim), u64::from(sizes.ffn.max(sizes.shared_ffn)));
        let (queries, keys) = (sizes.get(Size::Queries)?, sizes.get(Size::Keys)?);
        let (queries, keys) = (u64::from(queries), u64::from(keys));
        let group = u64::from(sizes.heads.checked_div(sizes.kv_heads)?);
        let scores = group.min(HEADS as u64) * batch.min(ROWS as u64);
        let all = u64::from(sizes.get(Size::FusedRows)?);
        let is_delta_net = sizes.has(feature::DELTA_NET);
        // All channels of a delta net; its gates; and rates of its heads.
        let queries = if is_delta_net { all } else { queries };
        let keys = if is_delta_net { queries.max(2 * u64::from(sizes.heads)) } else { keys };
        let mixed = mixed(sizes)?;
        let widest = dim.max(ffn).max(queries).max(sizes.expert_ffn.into()).max(mixed);
        // Biases are expanded to it, and a matrix of two numbers for each head.
        let scratch = scratch(widest).max(all).max(2 * u64::from(sizes.heads));
        let experts = Experts::new(batch, sizes)?;
        Some(Self {
            queries: self.queries.max(batch.checked_mul(queries)?),
            keys: self.keys.max(batch.checked_mul(keys)?),
            ffn: self.ffn.max(batch.checked_mul(ffn)?),
            scores: self.scores.max(scores.checked_mul(positions)?),
            scratch: self.scratch.max(scratch),
            experts: self.experts.max(experts),
            integers: match self.integers {
                Some(integers) => Some(integers.max(Integers::new(batch, widest)?)),
                None => None,
            },
            mixed: self.mixed.max(batch.checked_mul(mixed)?),
            cache: self.cache.max(Kept::new(sizes, sizes.heads, kv_heads)?.part),
            ..self
        })
    }

    /// Bytes of all buffers but the cache, at most, with `ropes` ropes; none if they overflow.
    #[must_use]
    pub fn bytes(&self, ropes: u64) -> Option<u64> {
        let buffers = [
            (4, self.tokens),
            (3 * 4, self.hidden),
            (2 * 4, self.queries),
            (2 * 4, self.keys),
            (2 * 4, self.ffn),
            (4, self.scores),
            (4, self.scratch),
            (4, self.logits),
            (8 * ropes, self.frequencies),
            (4 * ropes, self.rotations),
            (4, self.experts.routes),
            (3 * 4, self.experts.choices),
            (2 * 4, self.experts.rows),
            (2 * 4, self.experts.widths),
            (2 * 4, self.mixed),
            (4, self.carried),
        ];
        let integers = self.integers.unwrap_or_default();
        let integers = INTEGER_BYTES.iter().map(|bytes| *bytes as u64).zip(integers.counts());
        let mut all = buffers.into_iter().chain(integers);
        all.try_fold(0_u64, |sum, (bytes, count)| sum.checked_add(count.checked_mul(bytes)?))
    }
}

impl Experts {
    fn new(batch: u64, sizes: &Sizes) -> Option<Self> {
        let choices = batch.checked_mul(sizes.experts_used.into())?;
        Some(Self {
            routes: batch.checked_mul(sizes.experts.into())?,
            choices,
            rows: choices.checked_mul(sizes.dim.into())?,
            widths: choices.checked_mul(sizes.expert_ffn.into())?,
        })
    }

    fn max(self, other: Self) -> Self {
        Self {
            routes: self.routes.max(other.routes),
            choices: self.choices.max(other.choices),
            rows: self.rows.max(other.rows),
            widths: self.widths.max(other.widths),
        }
    }
}

impl Integers {
    /// Room for `rows` rows of at most `cols` activations; none if it overflows.
    #[must_use]
    pub fn new(rows: u64, cols: u64) -> Option<Self> {
        let columns = rows.checked_next_multiple_of(COLUMNS as u64)?;
        let supers = cols / SUPER as u64;
        Some(Self {
            groups: columns.checked_mul(cols.div_ceil(GROUP as u64))?,
            supers: columns.checked_mul(supers)?,
            unpacked_blocks: cols / BLOCK as u64,
            unpacked_supers: supers,
        })
    }

    fn max(self, other: Self) -> Self {
        Self {
            groups: self.groups.max(other.groups),
            supers: self.supers.max(other.supers),
            unpacked_blocks: self.unpacked_blocks.max(other.unpacked_blocks),
            unpacked_supers: self.unpacked_supers.max(other.unpacked_supers),
        }
    }

    const fn counts(&self) -> [u64; 4] {
        [self.groups, self.supers, self.unpacked_blocks, self.unpacked_supers]
    }
}

/// Floats of a row of [`Buffers::mixed`].
fn mixed(sizes: &Sizes) -> Option<u64> {
    let mut widest = 0;
    if sizes.has(feature::OUTPUT_GATE) {
        widest = widest.max(sizes.get(Size::GatedQueries)?);
    }
    if sizes.has(feature::DELTA_NET) {
        widest = widest.max(sizes.get(Size::FusedRows)?);
    }
    if sizes.has(feature::SHORT_CONV | feature::DENSE_BESIDE) {
        widest = widest.max(sizes.dim);
    }
    if sizes.has(feature::LAYER_INPUTS) {
        widest = widest.max(sizes.layer_input);
    }
    if sizes.has(feature::LATENT) {
        let queries = sizes.get(Size::LatentQueries)?;
        widest = widest.max(queries).max(sizes.query_rank).max(sizes.head_dim).max(sizes.value_dim);
    }
    Some(widest.into())
}

/// Floats of the scratch for rows of at most `cols` weights: two rows, or as many short ones as
/// there is always room for.
#[must_use]
pub const fn scratch(cols: u64) -> u64 {
    let two = cols.saturating_mul(2);
    if two > SCRATCH as u64 { two } else { SCRATCH as u64 }
}

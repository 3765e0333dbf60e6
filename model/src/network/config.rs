//! The numbers of a network.

use std::ops::Range;

use polychord_abi::buffers::{self, Run};
use polychord_abi::network::{Sizes, feature};
use polychord_abi::transformer::{Block, NO_ROPE, Rope};

use crate::pooling::Pooling;

/// Shape of the network. All sizes count elements and are greater than zero.
///
/// ```no_run
/// use polychord_model::config::{Config, Error};
/// use polychord_model::gguf::Gguf;
///
/// fn describe(gguf: &Gguf) -> Result<(), Error> {
///     let (config, tensors) = Config::from_gguf(gguf)?;
///     println!("{} blocks of width {}, {} tensors", config.blocks, config.dim, tensors.len());
///     Ok(())
/// }
/// ```
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Config {
    /// Number of transformer blocks.
    pub blocks: u32,
    /// Width of the hidden state.
    pub dim: u32,
    /// Width of the feed-forward part, of the widest block; of all experts together where it is
    /// divided.
    pub ffn: u32,
    /// Query heads of a block, of the one that has most.
    pub heads: u32,
    /// Key and value heads of a block; divides its query heads.
    pub kv_heads: u32,
    /// Width of one head.
    pub head_dim: u32,
    /// Added to the mean square, or to the variance, before its root.
    pub epsilon: f32,
    /// Longest sequence that the model was trained for.
    pub context_length: u32,
    /// Number of tokens; ids are below this.
    pub vocab: u32,
    /// Whether the output matrix is the embedding.
    pub tied: bool,
    /// What rows of the embedding are multiplied by.
    pub embedding_scale: f32,
    /// What the results of attention and feed-forward are multiplied by, before they are added.
    pub residual_scale: f32,
    /// What logits are multiplied by.
    pub logit_scale: f32,
    /// Logits are kept within this by `cap * tanh(logit / cap)`; 0 for none.
    pub logit_cap: f32,
    /// Width of what each block gets of each token beside the hidden state; 0 for nothing.
    pub layer_input: u32,
    /// Contexts above this use other factors of their rotation, if there are two kinds of them.
    pub long_context: Option<u32>,
    /// What is left of a sequence, if the model is made for that.
    pub pooling: Option<Pooling>,
    /// What the network has or does beyond the common ground, but for its blocks: bits of [`feature`](mod@polychord_abi::network::feature).
    pub features: u64,
    /// How queries and keys are rotated, in at most four ways: that of most blocks first.
    pub ropes: Vec<Rope>,
    /// Each block.
    pub layers: Vec<Block>,
}

impl Config {
    /// Adds a rope as the first one, but for its base, that scales nothing; returns its number.
    pub(crate) fn add_plain_rope(&mut self, base: f32) -> u32 {
        let plain = Rope {
            base,
            scale: 1.0,
            yarn_low: -1.0,
            yarn_high: -1.0,
            magnitude: 1.0,
            ..self.ropes[0]
        };
        self.add_rope(plain)
    }

    /// Adds a rope; returns its number.
    pub(crate) fn add_rope(&mut self, rope: Rope) -> u32 {
        self.ropes.push(rope);
        // At most four.
        u32::try_from(self.ropes.len() - 1).unwrap_or(NO_ROPE)
    }

    /// Calls `change` with the number of each block, and the block.
    pub(crate) fn each(&mut self, change: impl FnMut(usize, &mut Block)) {
        let mut change = change;
        self.layers.iter_mut().enumerate().for_each(|(number, block)| change(number, block));
    }

    /// Whether tokens attend to those behind them, so that the model gives no text.
    #[must_use]
    pub const fn is_encoder(&self) -> bool {
        self.features & feature::ENCODER != 0
    }

    /// The numbers that the sizes of the tensors and buffers of a block follow from; without one,
    /// of what is outside of blocks.
    #[must_use]
    pub fn sizes(&self, block: Option<u32>) -> Sizes {
        let block = block.and_then(|block| self.layers.get(block as usize));
        let outside = self.outside();
        block.map_or(outside, |block| block.sizes(&outside))
    }

    /// The numbers of a block's buffers and cache, where it is run like that.
    #[must_use]
    pub fn sizes_of(&self, block: u32, run: &Run) -> Sizes {
        let positions = self.positions(block, run);
        Sizes { positions, ..self.sizes(Some(block)) }
    }

    /// How many positions the cache of a block has room for; 0 if it has a state in its place.
    ///
    /// A block whose keys and values others use has room for all: where layers are paged, it runs
    /// over several batches before these do.
    #[must_use]
    pub fn positions(&self, block: u32, run: &Run) -> u32 {
        let Some(its) = self.layers.get(block as usize) else { return 0 };
        if its.features & feature::RECURRENT != 0 {
            0
        } else if self.is_shared(block) {
            run.context
        } else {
            buffers::positions(its.window, run)
        }
    }

    /// Whether a sequence can go on at a position, if its highest one so far was before `reached`:
    /// blocks with a window have overwritten what was earlier than that needs, and a state is only as it
    /// was after the last position.
    #[must_use]
    pub fn can_go_on(&self, position: u32, reached: u32, run: &Run) -> bool {
        position == 0
            || (0..).zip(&self.layers).all(|(number, block)| {
                if block.features & feature::RECURRENT != 0 {
                    return position == reached;
                }
                first_seen(block, position).saturating_add(self.positions(number, run)) >= reached
            })
    }

    /// The first position of which a block needs what it has kept, where a sequence goes on at
    /// `position`. A state is that of the last one.
    #[must_use]
    pub fn first_kept(&self, block: u32, position: u32) -> u32 {
        let Some(its) = self.layers.get(block as usize) else { return 0 };
        if its.features & feature::RECURRENT != 0 {
            position.saturating_sub(1)
        } else if self.is_shared(block) {
            0
        } else {
            first_seen(its, position)
        }
    }

    /// Whether every block keeps what it has of all positions.
    #[must_use]
    pub fn keeps_all(&self) -> bool {
        (0..self.blocks).all(|block| self.first_kept(block, u32::MAX) == 0)
    }

    /// The blocks that have to be in one guest, since some use keys and values of others; none if
    /// each is by itself.
    #[must_use]
    pub fn tied_blocks(&self) -> Option<Range<u32>> {
        let shares = |block: &&Block| block.features & feature::SHARED_KEYS != 0;
        let first = self.layers.iter().filter(shares).map(|block| block.keys_of).min()?;
        let last = self.layers.iter().rposition(|block| shares(&block))?;
        Some(first..u32::try_from(last + 1).unwrap_or(self.blocks))
    }

    /// Whether a block uses keys and values with others.
    fn is_shared(&self, block: u32) -> bool {
        let shares = |it: &Block| it.features & feature::SHARED_KEYS != 0;
        let this = self.layers.get(block as usize);
        this.is_some_and(shares) || self.layers.iter().any(|it| shares(it) && it.keys_of == block)
    }

    /// Width of what all blocks get of each token beside the hidden state.
    #[must_use]
    pub const fn carried(&self) -> u32 {
        self.layer_input.saturating_mul(self.blocks)
    }

    /// The numbers of what is outside of blocks.
    fn outside(&self) -> Sizes {
        Sizes {
            vocab: self.vocab,
            dim: self.dim,
            rope_dim: self.ropes.first().map_or(0, |rope| rope.dim),
            layer_input: self.layer_input,
            carried: self.carried(),
            features: self.features,
            ..Sizes::default()
        }
    }

    /// Width of all query heads of a block together.
    #[must_use]
    pub fn q_dim(&self) -> u32 {
        self.heads.saturating_mul(self.head_dim)
    }

    /// Width of all key heads (or all value heads) of a block together.
    #[must_use]
    pub fn kv_dim(&self) -> u32 {
        self.kv_heads.saturating_mul(self.head_dim)
    }
}

/// The first position that a block with keys and values sees from `position`.
fn first_seen(block: &Block, position: u32) -> u32 {
    let seen = match block.window {
        0 => position,
        window if block.features & feature::CHUNKS != 0 => position % window,
        window => position.min(window - 1),
    };
    position - seen
}

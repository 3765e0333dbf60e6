//! The numbers of a network.

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
    /// Contexts above this use other factors of their rotation, if there are two kinds of them.
    pub long_context: Option<u32>,
    /// What is left of a sequence, if the model is made for that.
    pub pooling: Option<Pooling>,
    /// What the network has or does beyond the common ground, but for its blocks: bits of [`feature`](mod@polychord_abi::network::feature).
    pub features: u32,
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
        self.ropes.push(plain);
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
        let block = block.and_then(|block| self.layers.get(block as usize)).copied();
        let rope_dim = self.ropes.first().map_or(0, |rope| rope.dim);
        block.unwrap_or_default().sizes(self.vocab, self.dim, rope_dim)
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

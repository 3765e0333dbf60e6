//! Shape of a network, and what each tensor of the file is for.

mod error;
mod experts;
mod keys;
mod rope;
mod tensors;

use polychord_abi::network::{ROLES, Sizes, feature, role};

use crate::arch::Architecture;
use crate::gguf::{Gguf, Metadata, Value};

pub use error::Error;
pub(crate) use experts::Experts;
pub(crate) use keys::Keys;
use keys::in_range;
pub use polychord_abi::transformer::{Block, NO_ROPE, Rope, gating};
pub use tensors::ModelTensor;
use tensors::Network;

/// Most blocks that are accepted; the largest known models have about 130.
const MAX_BLOCKS: u32 = 4096;
/// Most heads of a block.
const MAX_HEADS: u32 = 65_536;

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
    /// What the network has or does beyond the common ground, but for its blocks: bits of [`feature`].
    pub features: u32,
    /// How queries and keys are rotated, in at most four ways: that of most blocks first.
    pub ropes: Vec<Rope>,
    /// Each block.
    pub layers: Vec<Block>,
}

impl Config {
    /// Reads the shape from the metadata and checks every tensor of the file against it.
    ///
    /// The second result lists the tensors in the order of the network: embedding, blocks
    /// from first to last, then what the output needs.
    ///
    /// # Errors
    ///
    /// If the architecture or one of its options is not supported, a value is missing or
    /// impossible, or a tensor is missing, unknown, of another shape than the values
    /// require, or of a type that the guest cannot compute with. Unknown tensors are refused
    /// because leaving one out (a bias, an expert gate) would silently give wrong text.
    pub fn from_gguf(gguf: &Gguf) -> Result<(Self, Vec<ModelTensor<'_>>), Error> {
        let metadata = gguf.metadata();
        check_whole(metadata)?;
        let architecture = architecture(metadata)?;
        let keys = Keys::new(gguf, architecture);
        let features = architecture.features_of(gguf);
        let (mut config, skipped) = Self::common(&keys, features)?;
        config.read_factors(&keys)?;
        (architecture.read)(&keys, &mut config)?;
        keys.refuse_unread()?;
        config.check()?;
        let tensors = Network { architecture, config: &config, skipped }.tensors(gguf)?;
        Ok((config, tensors))
    }

    /// The network as the keys that all have describe it, and the number of blocks that are there
    /// for something else.
    fn common(keys: &Keys<'_>, features: u32) -> Result<(Self, u32), Error> {
        let all = keys.required("block_count", MAX_BLOCKS)?;
        // Predict further tokens, behind the network.
        let skipped = keys.count("nextn_predict_layers", MAX_BLOCKS)?.unwrap_or(0);
        if skipped >= all {
            let key = keys.key("nextn_predict_layers");
            return Err(Error::Range { key, value: skipped.into(), most: all - 1 });
        }
        let dim = keys.required("embedding_length", u32::MAX)?;
        let per_block = |name, most| keys.per_block(name, most, all);
        let ffn = per_block("feed_forward_length", u32::MAX)?;
        let ffn = ffn.ok_or_else(|| keys.missing("feed_forward_length"))?;
        let heads = per_block("attention.head_count", MAX_HEADS)?;
        let heads = heads.ok_or_else(|| keys.missing("attention.head_count"))?;
        let kv_heads = per_block("attention.head_count_kv", MAX_HEADS)?;
        let kv_heads = kv_heads.unwrap_or_else(|| heads.clone());
        let head_dim = keys.head_dim(dim, most(&heads))?;
        let context_length = keys.required("context_length", u32::MAX)?;
        let attention_scale = keys.factor("attention.scale")?;
        #[expect(clippy::cast_precision_loss, reason = "heads are not that wide")]
        let attention_scale = attention_scale.unwrap_or(1.0 / (head_dim as f32).sqrt());
        let block = |number: usize| Block {
            features,
            heads: heads[number],
            kv_heads: kv_heads[number],
            head_dim,
            ffn: ffn[number],
            attention_scale,
            ..Block::default()
        };
        let blocks = all - skipped;
        let config = Self {
            blocks,
            dim,
            ffn: most(&ffn),
            heads: most(&heads),
            kv_heads: most(&kv_heads),
            head_dim,
            epsilon: keys.required_positive(keys.architecture.epsilon)?,
            context_length,
            vocab: vocab(keys.gguf, keys)?,
            tied: features & feature::TIED_OUTPUT != 0,
            embedding_scale: 1.0,
            residual_scale: 1.0,
            logit_scale: 1.0,
            logit_cap: 0.0,
            long_context: None,
            features,
            ropes: vec![keys.rope(head_dim, context_length)?],
            layers: (0..blocks as usize).map(block).collect(),
        };
        Ok((config, skipped))
    }

    /// Lets the rope be divided by the factors of the file, if it has them: by one list, or by one
    /// of two, for contexts up to the one that the model was first trained for, and for longer ones.
    fn read_factors(&mut self, keys: &Keys<'_>) -> Result<(), Error> {
        let is_there = |role: u32| keys.gguf.tensor(ROLES[role as usize].name).is_some();
        if is_there(role::ROPE_FREQS) {
            self.ropes.iter_mut().for_each(|rope| rope.factors = role::ROPE_FREQS);
        }
        let both = [role::ROPE_FACTORS_SHORT, role::ROPE_FACTORS_LONG];
        let missing = both.into_iter().find(|role| !is_there(*role));
        match missing {
            Some(_) if !both.into_iter().any(is_there) => {}
            Some(role) => {
                let name = ROLES[role as usize].name.to_owned();
                return Err(Error::MissingTensor { name });
            }
            None => {
                let name = "rope.scaling.original_context_length";
                self.long_context = Some(keys.required(name, u32::MAX)?);
            }
        }
        Ok(())
    }

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

    fn check(&self) -> Result<(), Error> {
        for block in &self.layers {
            let Block { heads, kv_heads, head_dim, .. } = *block;
            if !heads.is_multiple_of(kv_heads) {
                return Err(Error::HeadGroups { heads, kv_heads });
            }
            if heads.checked_add(2 * kv_heads).and_then(|all| all.checked_mul(head_dim)).is_none() {
                return Err(Error::HeadWidth { heads, head_dim });
            }
            if let Some(rope) = self.ropes.get(block.rope as usize) {
                let widest = head_dim.min(self.ropes[0].dim);
                if !rope.dim.is_multiple_of(2) || rope.dim > widest {
                    return Err(Error::RopeDim { rope_dim: rope.dim, head_dim: widest });
                }
            }
            let Block { ffn, experts, expert_ffn, .. } = *block;
            let widest = expert_ffn.max(self.dim);
            if ffn.checked_mul(2).is_none() || experts.checked_mul(widest).is_none() {
                return Err(Error::FeedForwardWidth { ffn, experts, width: widest });
            }
        }
        Ok(())
    }
}

fn most(numbers: &[u32]) -> u32 {
    numbers.iter().copied().max().unwrap_or(1)
}

/// Refuses a part of a model whose tensors are in several files, each of which is a GGUF file.
fn check_whole(metadata: &Metadata) -> Result<(), Error> {
    let number = |key| metadata.get(key).and_then(Value::as_u64);
    match (number("split.no"), number("split.count")) {
        (no, Some(count)) if count > 1 => {
            Err(Error::Split { part: no.unwrap_or(0).saturating_add(1), count })
        }
        _ => Ok(()),
    }
}

fn architecture(metadata: &Metadata) -> Result<&'static Architecture, Error> {
    let key = "general.architecture";
    let found = metadata.str(key)?.ok_or_else(|| Error::Missing { key: key.to_owned() })?;
    Architecture::find(found).ok_or_else(|| Error::Architecture { found: found.to_owned() })
}

/// Number of tokens, from the embedding's rows; the tokenizer must agree if there is one.
fn vocab(gguf: &Gguf, keys: &Keys<'_>) -> Result<u32, Error> {
    let name = ROLES[role::TOKEN_EMBD as usize].name;
    let embedding =
        gguf.tensor(name).ok_or_else(|| Error::MissingTensor { name: name.to_owned() })?;
    let rows = embedding.dims.get(1).copied().unwrap_or(1);
    let tokens = "tokenizer.ggml.tokens";
    let named = keys.metadata.strings(tokens)?.map(|tokens| tokens.len() as u64);
    if let Some(named) = named.filter(|&named| named != rows) {
        return Err(Error::Vocab { key: tokens.to_owned(), tokens: named, rows });
    }
    let key = keys.key("vocab_size");
    if let Some(size) = keys.metadata.u64(&key)?.filter(|&size| size != rows) {
        if named.is_none() {
            return Err(Error::Vocab { key, tokens: size, rows });
        }
        // Nothing is computed with it; converters write it before they add or drop tokens.
        tracing::warn!(key, size, rows, "the vocabulary and the embedding have another size");
    }
    in_range(name.to_owned(), rows, u32::MAX)
}

impl Keys<'_> {
    fn head_dim(&self, dim: u32, heads: u32) -> Result<u32, Error> {
        let keys = self.optional("attention.key_length", u32::MAX)?;
        let values = self.optional("attention.value_length", u32::MAX)?;
        let (Some(width), true) =
            (keys.or(Some(dim / heads)), keys.is_some() || dim.is_multiple_of(heads))
        else {
            return Err(Error::HeadDim { dim, heads });
        };
        match values {
            Some(values) if values != width => Err(Error::ValueLength { keys: width, values }),
            _ => Ok(width),
        }
    }
}

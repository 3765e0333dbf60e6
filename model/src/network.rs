//! Shape of a network, and what each tensor of the file is for.

mod architecture;
mod config;
mod error;
mod experts;
mod keys;
mod rope;
mod tensors;

use polychord_abi::network::{ROLES, feature, role};

use crate::gguf::Gguf;

pub(crate) use architecture::{Architecture, Pairs};
pub use config::Config;
pub use error::Error;
pub(crate) use experts::Experts;
pub(crate) use keys::Keys;
use keys::{MAX_BLOCKS, in_range};
pub use polychord_abi::transformer::{Block, NO_ROPE, Rope, gating};
pub use tensors::ModelTensor;
use tensors::Network;

/// Most heads of a block.
pub(crate) const MAX_HEADS: u32 = 65_536;

impl Config {
    /// Reads the network of an architecture, and finds its tensors.
    pub(crate) fn read<'a>(
        gguf: &'a Gguf,
        architecture: &'static Architecture,
    ) -> Result<(Self, Vec<ModelTensor<'a>>), Error> {
        let keys = Keys::new(gguf, architecture.name, architecture.ignored);
        let features = architecture.features_of(gguf);
        let (mut config, skipped) = Self::common(&keys, architecture, features)?;
        config.read_factors(&keys)?;
        (architecture.read)(&keys, &mut config)?;
        keys.refuse_unread(config.is_encoder())?;
        config.check(&keys)?;
        let tensors = Network { architecture, config: &config, skipped }.tensors(gguf)?;
        Ok((config, tensors))
    }

    /// The network as the keys that all have describe it, and the number of blocks that are there
    /// for something else.
    fn common(
        keys: &Keys<'_>,
        architecture: &Architecture,
        features: u64,
    ) -> Result<(Self, u32), Error> {
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
        let kv_heads = keys.per_block_or_none("attention.head_count_kv", MAX_HEADS, all)?;
        let kv_heads = kv_heads.unwrap_or_else(|| heads.clone());
        let head_dim = keys.head_dim(dim, most(&heads), features)?;
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
            epsilon: keys.required_positive(architecture.epsilon)?,
            context_length,
            vocab: vocab(keys.gguf, keys)?,
            tied: features & feature::TIED_OUTPUT != 0,
            embedding_scale: 1.0,
            residual_scale: 1.0,
            logit_scale: 1.0,
            logit_cap: 0.0,
            layer_input: 0,
            long_context: None,
            pooling: keys.pooling()?,
            features,
            ropes: vec![keys.rope(
                head_dim,
                context_length,
                architecture.pairs == Pairs::Halves,
            )?],
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

    fn check(&self, keys: &Keys<'_>) -> Result<(), Error> {
        if self.layer_input.checked_mul(self.blocks).is_none() {
            let key = keys.key("embedding_length_per_layer_input");
            let most = u32::MAX / self.blocks;
            return Err(Error::Range { key, value: self.layer_input.into(), most });
        }
        for block in &self.layers {
            let Block { heads, kv_heads, head_dim, .. } = *block;
            if kv_heads == 0 {
                let key = keys.key("attention.head_count_kv");
                return Err(Error::Range { key, value: 0, most: MAX_HEADS });
            }
            let widths = [block.latent_rank, block.plain_dim, block.value_dim];
            let latent = widths.into_iter().try_fold(head_dim, u32::checked_add);
            let latent = latent.and_then(|width| width.checked_mul(heads));
            if latent.is_none() {
                return Err(Error::HeadWidth { heads, head_dim });
            }
            if !heads.is_multiple_of(kv_heads) {
                return Err(Error::HeadGroups { heads, kv_heads });
            }
            let all = kv_heads.checked_mul(2).and_then(|both| both.checked_add(heads));
            if all.and_then(|all| all.checked_mul(head_dim)?.checked_mul(2)).is_none() {
                return Err(Error::HeadWidth { heads, head_dim });
            }
            if let Some(rope) = self.ropes.get(block.rope as usize) {
                let widest = head_dim.min(self.ropes[0].dim);
                if !rope.dim.is_multiple_of(2) || rope.dim > widest {
                    return Err(Error::RopeDim { rope_dim: rope.dim, head_dim: widest });
                }
            }
            let Block { ffn, experts, expert_ffn, .. } = *block;
            // Rows of gates and of the other factor may be one matrix.
            let widest = expert_ffn.saturating_mul(2).max(self.dim);
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
    fn head_dim(&self, dim: u32, heads: u32, features: u64) -> Result<u32, Error> {
        let keys = self.optional("attention.key_length", u32::MAX)?;
        let values = self.optional("attention.value_length", u32::MAX)?;
        let (Some(width), true) =
            (keys.or(Some(dim / heads)), keys.is_some() || dim.is_multiple_of(heads))
        else {
            return Err(Error::HeadDim { dim, heads });
        };
        match values {
            // Latent values are a part of the keys, and their heads have keys of their own.
            Some(values) if values != width && features & feature::LATENT == 0 => {
                Err(Error::ValueLength { keys: width, values })
            }
            _ => Ok(width),
        }
    }
}

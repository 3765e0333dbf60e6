//! Shape of a network, and what each tensor of the file is for.

mod error;
mod tensors;

use polychord_abi::network::{ROLES, Sizes, feature, role};

use crate::arch::Architecture;
use crate::gguf::{Gguf, Metadata, Value};

pub use error::Error;
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
    /// Width of the feed-forward part.
    pub ffn: u32,
    /// Query heads of a block.
    pub heads: u32,
    /// Key and value heads of a block; divides `heads`.
    pub kv_heads: u32,
    /// Width of one head.
    pub head_dim: u32,
    /// How many elements of a head are rotated; even, at most `head_dim`.
    pub rope_dim: u32,
    /// Base of the rotary frequencies.
    pub rope_base: f32,
    /// Positions are multiplied by this before rotation: 1, or 1/factor of linear scaling.
    pub rope_scale: f32,
    /// Added to the mean square before its root.
    pub rms_epsilon: f32,
    /// Longest sequence that the model was trained for.
    pub context_length: u32,
    /// Number of tokens; ids are below this.
    pub vocab: u32,
    /// Whether the output matrix is the embedding.
    pub tied: bool,
    /// What the network has or does beyond the common ground: bits of [`feature`].
    pub features: u32,
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
        let keys = Keys { metadata, prefix: architecture.name };
        let features = architecture.features_of(gguf);
        keys.refuse_options()?;
        let dim = keys.required("embedding_length", u32::MAX)?;
        let heads = keys.required("attention.head_count", MAX_HEADS)?;
        let kv_heads = keys.optional("attention.head_count_kv", MAX_HEADS)?.unwrap_or(heads);
        let head_dim = keys.head_dim(dim, heads)?;
        let config = Self {
            blocks: keys.required("block_count", MAX_BLOCKS)?,
            dim,
            ffn: keys.required("feed_forward_length", u32::MAX)?,
            heads,
            kv_heads,
            head_dim,
            rope_dim: keys.optional("rope.dimension_count", u32::MAX)?.unwrap_or(head_dim),
            rope_base: keys.positive("rope.freq_base")?.unwrap_or(10_000.0),
            rope_scale: keys.rope_scale()?,
            rms_epsilon: keys.required_positive("attention.layer_norm_rms_epsilon")?,
            context_length: keys.required("context_length", u32::MAX)?,
            vocab: vocab(gguf, &keys)?,
            tied: features & feature::TIED_OUTPUT != 0,
            features,
        };
        config.check()?;
        let (architecture, blocks, sizes) = (architecture.name, config.blocks, config.sizes());
        let tensors = Network { architecture, blocks, features, sizes }.tensors(gguf)?;
        Ok((config, tensors))
    }

    /// The numbers that the sizes of tensors and buffers follow from.
    #[must_use]
    pub const fn sizes(&self) -> Sizes {
        let Self { vocab, dim, ffn, heads, kv_heads, head_dim, rope_dim, .. } = *self;
        Sizes { vocab, dim, ffn, heads, kv_heads, head_dim, rope_dim }
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
        let Self { heads, kv_heads, head_dim, rope_dim, .. } = *self;
        if !heads.is_multiple_of(kv_heads) {
            return Err(Error::HeadGroups { heads, kv_heads });
        }
        if heads.checked_mul(head_dim).is_none() {
            return Err(Error::HeadWidth { heads, head_dim });
        }
        if !rope_dim.is_multiple_of(2) || rope_dim > head_dim {
            return Err(Error::RopeDim { rope_dim, head_dim });
        }
        Ok(())
    }
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

fn in_range(key: String, value: u64, most: u32) -> Result<u32, Error> {
    match u32::try_from(value) {
        Ok(value) if (1..=most).contains(&value) => Ok(value),
        _ => Err(Error::Range { key, value, most }),
    }
}

/// Access to the keys that start with the architecture's name.
struct Keys<'a> {
    metadata: &'a Metadata,
    prefix: &'static str,
}

impl Keys<'_> {
    fn key(&self, name: &str) -> String {
        format!("{}.{name}", self.prefix)
    }

    fn optional(&self, name: &str, most: u32) -> Result<Option<u32>, Error> {
        let key = self.key(name);
        let value = match self.metadata.get(&key) {
            // One number for each block.
            Some(Value::Array(array)) => match array.uniform() {
                Some(value) => Some(value),
                None => return Err(Error::PerBlock { key }),
            },
            _ => self.metadata.u64(&key)?,
        };
        value.map(|value| in_range(key, value, most)).transpose()
    }

    fn required(&self, name: &str, most: u32) -> Result<u32, Error> {
        let missing = || Error::Missing { key: self.key(name) };
        self.optional(name, most)?.ok_or_else(missing)
    }

    fn positive(&self, name: &str) -> Result<Option<f32>, Error> {
        let key = self.key(name);
        match self.metadata.f32(&key)? {
            Some(value) if !(value.is_finite() && value > 0.0) => Err(Error::Float { key, value }),
            value => Ok(value),
        }
    }

    fn required_positive(&self, name: &str) -> Result<f32, Error> {
        let missing = || Error::Missing { key: self.key(name) };
        self.positive(name)?.ok_or_else(missing)
    }

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

    /// A factor above zero; zero, which some converters write, is none.
    fn factor(&self, name: &str) -> Result<Option<f32>, Error> {
        match self.metadata.f32(&self.key(name))? {
            Some(0.0) => Ok(None),
            _ => self.positive(name),
        }
    }

    /// Factor on positions; refuses kinds of scaling that are more than a factor.
    fn rope_scale(&self) -> Result<f32, Error> {
        let old = self.factor("rope.scale_linear")?;
        let key = self.key("rope.scaling.factor");
        let factor = match self.metadata.get(&key) {
            Some(_) => self.factor("rope.scaling.factor")?,
            None => old,
        };
        let kind = self.metadata.str(&self.key("rope.scaling.type"))?;
        match kind {
            Some("none") => Ok(1.0),
            Some("linear") | None => Ok(1.0 / factor.unwrap_or(1.0)),
            Some(kind) => Err(Error::RopeScaling { kind: kind.to_owned() }),
        }
    }

    /// Refuses options that would change the computation.
    fn refuse_options(&self) -> Result<(), Error> {
        let neutral_integers = [("expert_count", 0), ("expert_used_count", 0)];
        for (name, neutral) in neutral_integers {
            let key = self.key(name);
            if let Some(value) = self.metadata.u64(&key)?.filter(|&value| value != neutral) {
                return Err(Error::Option { key, value: value.to_string() });
            }
        }
        let neutral_floats =
            ["logit_scale", "residual_scale", "embedding_scale", "rope.scaling.attn_factor"];
        for name in neutral_floats {
            let key = self.key(name);
            #[allow(clippy::float_cmp, reason = "only exactly 1 changes nothing")]
            if let Some(value) = self.metadata.f32(&key)?.filter(|&value| value != 1.0) {
                return Err(Error::Option { key, value: value.to_string() });
            }
        }
        let key = self.key("attention.causal");
        if self.metadata.bool(&key)? == Some(false) {
            return Err(Error::Option { key, value: "false".to_owned() });
        }
        Ok(())
    }
}

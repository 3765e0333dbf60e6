//! The keys of one architecture, and which of them were read.

use std::cell::RefCell;
use std::collections::BTreeSet;

use super::config::Config;
use super::error::Error;
use crate::gguf::{Array, Gguf, Metadata, Value};
use crate::pooling::Pooling;

/// Most blocks that are accepted; the largest known models have about 130.
pub(super) const MAX_BLOCKS: u32 = 4096;
/// Keys that change what is computed, by the end of their name, with the value that changes
/// nothing beside 0 and false.
///
/// What an architecture has and no code reads is refused by them, not left out.
const COMPUTED: &[(&str, f64)] = &[
    ("attention.clamp_kqv", 0.0),
    ("attention.key_length_mla", 0.0),
    ("attention.key_length_swa", 0.0),
    ("attention.kv_lora_rank", 0.0),
    ("attention.max_alibi_bias", 0.0),
    ("attention.output_scale", 1.0),
    ("attention.q_lora_rank", 0.0),
    ("attention.recurrent_layers", 0.0),
    ("attention.rope_pattern", 0.0),
    ("attention.shared_kv_layers", 0.0),
    ("attention.sliding_window", 0.0),
    ("attention.temperature_scale", 0.0),
    ("attention.value_length_swa", 0.0),
    ("attn_logit_softcapping", 0.0),
    ("embedding_length_per_layer_input", 0.0),
    ("embedding_scale", 1.0),
    ("expert_count", 0.0),
    ("expert_gating_func", 0.0),
    ("expert_group_count", 1.0),
    ("expert_group_used_count", 1.0),
    ("expert_shared_count", 0.0),
    ("expert_shared_feed_forward_length", 0.0),
    ("expert_used_count", 0.0),
    ("expert_weights_norm", 0.0),
    ("expert_weights_scale", 1.0),
    ("final_logit_softcapping", 0.0),
    ("full_attention_interval", 0.0),
    ("interleave_moe_layer_step", 0.0),
    ("leading_dense_block_count", 0.0),
    ("logit_scale", 1.0),
    ("moe_every_n_layers", 0.0),
    ("pooling_type", 0.0),
    ("residual_scale", 1.0),
    ("rope.dimension_count_swa", 0.0),
    ("rope.dimension_sections", 0.0),
    ("rope.freq_base_swa", 0.0),
    ("router_logit_softcapping", 0.0),
    ("shortconv.l_cache", 0.0),
    ("ssm.conv_kernel", 0.0),
    ("ssm.state_size", 0.0),
    ("use_parallel_residual", 0.0),
];

/// Access to the keys that begin with an architecture's name.
pub(crate) struct Keys<'a> {
    pub(super) gguf: &'a Gguf,
    pub(super) metadata: &'a Metadata,
    /// The architecture's name.
    prefix: &'static str,
    /// Keys that change nothing here.
    ignored: &'static [&'static str],
    read: RefCell<BTreeSet<String>>,
}

impl<'a> Keys<'a> {
    /// The keys of an architecture, some of which change nothing.
    pub(super) fn new(
        gguf: &'a Gguf,
        prefix: &'static str,
        ignored: &'static [&'static str],
    ) -> Self {
        Self { gguf, metadata: gguf.metadata(), prefix, ignored, read: RefCell::default() }
    }

    /// The whole name of a key, which counts as read.
    pub(super) fn key(&self, name: &str) -> String {
        self.read.borrow_mut().insert(name.to_owned());
        format!("{}.{name}", self.prefix)
    }

    /// Whether a key is there.
    pub(crate) fn is_there(&self, name: &str) -> bool {
        self.metadata.get(&self.key(name)).is_some()
    }

    /// Whether the file has a tensor of this name.
    pub(crate) fn has_tensor(&self, name: &str) -> bool {
        self.gguf.tensor(name).is_some()
    }

    /// The dimensions of a tensor, if the file has it.
    pub(crate) fn dims_of(&self, name: &str) -> Option<&[u64]> {
        self.gguf.tensor(name).map(|tensor| &tensor.dims[..])
    }

    /// An integer, which may be 0.
    pub(crate) fn number(&self, name: &str) -> Result<Option<u64>, Error> {
        Ok(self.metadata.u64(&self.key(name))?)
    }

    /// The error of a key whose value is not implemented, or which is not there though it has to be.
    pub(crate) fn refused(&self, name: &str) -> Error {
        let key = self.key(name);
        match self.metadata.get(&key).map(ToString::to_string) {
            Some(value) => Error::Option { key, value },
            None => Error::Missing { key },
        }
    }

    /// The error of a key that is not there.
    pub(crate) fn missing(&self, name: &str) -> Error {
        Error::Missing { key: self.key(name) }
    }

    /// A number that is not zero, the same for all blocks.
    pub(crate) fn optional(&self, name: &str, most: u32) -> Result<Option<u32>, Error> {
        let key = self.key(name);
        let value = match self.metadata.get(&key) {
            // One number for each block.
            Some(Value::Array(array)) => {
                let Some(value) = array.uniform() else { return Err(Error::PerBlock { key }) };
                self.check_length(&key, array.len())?;
                Some(value)
            }
            _ => self.metadata.u64(&key)?,
        };
        value.map(|value| in_range(key, value, most)).transpose()
    }

    /// Makes sure that an array has an element for each block of the file. More of them are harmless where all
    /// are the same.
    fn check_length(&self, key: &str, found: usize) -> Result<(), Error> {
        let blocks = self.metadata.u64(&format!("{}.block_count", self.prefix))?;
        match blocks.map(u32::try_from) {
            Some(Ok(blocks)) if found < blocks as usize => {
                Err(Error::ArrayLength { key: key.to_owned(), found, blocks })
            }
            _ => Ok(()),
        }
    }

    /// A number as [`optional`](Self::optional) has it, where 0 says that there is none.
    pub(crate) fn count(&self, name: &str, most: u32) -> Result<Option<u32>, Error> {
        match self.metadata.get(&self.key(name)).and_then(Value::as_u64) {
            Some(0) => Ok(None),
            _ => self.optional(name, most),
        }
    }

    pub(crate) fn required(&self, name: &str, most: u32) -> Result<u32, Error> {
        self.optional(name, most)?.ok_or_else(|| self.missing(name))
    }

    /// A number for each of `blocks` blocks: one for all, or an array of them.
    pub(super) fn per_block(
        &self,
        name: &str,
        most: u32,
        blocks: u32,
    ) -> Result<Option<Vec<u32>>, Error> {
        let key = self.key(name);
        let numbers = match self.metadata.get(&key) {
            Some(Value::Array(array)) if array.uniform().is_none() => array.numbers(),
            _ => {
                let one = self.optional(name, most)?;
                return Ok(one.map(|one| vec![one; blocks as usize]));
            }
        };
        let Some(numbers) = numbers else { return Err(Error::PerBlock { key }) };
        if numbers.len() != blocks as usize {
            return Err(Error::ArrayLength { key, found: numbers.len(), blocks });
        }
        let all = numbers.into_iter().map(|number| in_range(key.clone(), number, most));
        all.collect::<Result<_, _>>().map(Some)
    }

    /// A number for each of `blocks` blocks as [`per_block`](Self::per_block) has it, where an array
    /// may say of some blocks that they have none, by 0.
    pub(super) fn per_block_or_none(
        &self,
        name: &str,
        most: u32,
        blocks: u32,
    ) -> Result<Option<Vec<u32>>, Error> {
        let key = self.key(name);
        let Some(numbers) = self.metadata.get(&key).and_then(|value| match value {
            Value::Array(array) if array.uniform().is_none() => array.numbers(),
            _ => None,
        }) else {
            return self.per_block(name, most, blocks);
        };
        if numbers.len() != blocks as usize {
            return Err(Error::ArrayLength { key, found: numbers.len(), blocks });
        }
        let one = |number| if number == 0 { Ok(0) } else { in_range(key.clone(), number, most) };
        numbers.into_iter().map(one).collect::<Result<_, _>>().map(Some)
    }

    /// A float above zero.
    pub(crate) fn positive(&self, name: &str) -> Result<Option<f32>, Error> {
        let key = self.key(name);
        match self.metadata.f32(&key)? {
            Some(value) if !(value.is_finite() && value > 0.0) => Err(Error::Float { key, value }),
            value => Ok(value),
        }
    }

    pub(super) fn required_positive(&self, name: &str) -> Result<f32, Error> {
        self.positive(name)?.ok_or_else(|| self.missing(name))
    }

    /// A factor above zero; zero, which some converters write, is none.
    pub(crate) fn factor(&self, name: &str) -> Result<Option<f32>, Error> {
        match self.metadata.f32(&self.key(name))? {
            Some(0.0) => Ok(None),
            _ => self.positive(name),
        }
    }

    /// A soft cap, where 0 says that there is none.
    pub(crate) fn cap(&self, name: &str) -> Result<Option<f32>, Error> {
        match self.metadata.f32(&self.key(name))? {
            Some(0.0) => Ok(Some(0.0)),
            _ => self.positive(name),
        }
    }

    /// A yes or a no.
    pub(crate) fn bool(&self, name: &str) -> Result<Option<bool>, Error> {
        Ok(self.metadata.bool(&self.key(name))?)
    }

    /// How many positions are attended to in blocks that have a window; 0 says that none has.
    pub(crate) fn window(&self) -> Result<Option<u32>, Error> {
        self.count("attention.sliding_window", u32::MAX)
    }

    /// How many positions are attended to in a family in which some blocks always have a window: `usual` if the
    /// file does not say.
    pub(crate) fn window_or(&self, usual: Option<u32>) -> Result<u32, Error> {
        let name = "attention.sliding_window";
        match self.optional(name, u32::MAX)?.or(usual) {
            Some(window) => Ok(window),
            None => Err(self.missing(name)),
        }
    }

    /// Which blocks have a window: by an array, or all but the last of each group of
    /// blocks, whose number is in the file, or else is `every`.
    pub(crate) fn local_blocks(&self, config: &Config, every: u32) -> Result<Vec<bool>, Error> {
        // As it is without the key, too.
        if self.metadata.f32(&format!("{}.rope.freq_base_swa", self.prefix))?
            == Some(config.ropes[0].base)
        {
            self.key("rope.freq_base_swa");
        }
        let key = self.key("attention.sliding_window_pattern");
        let blocks = config.blocks;
        let every = match self.metadata.get(&key) {
            Some(Value::Array(Array::Bool(local))) => {
                // It may say something about blocks that are not run, too.
                if local.len() < blocks as usize {
                    return Err(Error::ArrayLength { key, found: local.len(), blocks });
                }
                return Ok(local[..blocks as usize].to_vec());
            }
            Some(Value::Array(array)) => {
                let found = array.len();
                let local = array.numbers().ok_or_else(|| Error::PerBlock { key: key.clone() })?;
                if found < blocks as usize {
                    return Err(Error::ArrayLength { key, found, blocks });
                }
                return Ok(local[..blocks as usize].iter().map(|local| *local != 0).collect());
            }
            Some(_) => self.required("attention.sliding_window_pattern", MAX_BLOCKS)?,
            None => every,
        };
        Ok((0..blocks).map(|number| number % every < every - 1).collect())
    }

    /// The width of an expert: that of all, divided among those that a token chooses, if the file
    /// does not say.
    pub(crate) fn expert_width(&self, ffn: u32) -> Result<u32, Error> {
        let used = self.count("expert_used_count", u32::MAX)?.unwrap_or(1);
        let width = self.count("expert_feed_forward_length", u32::MAX)?;
        Ok(width.unwrap_or((ffn / used).max(1)))
    }

    /// What is left of a sequence, if the file says so.
    pub(super) fn pooling(&self) -> Result<Option<Pooling>, Error> {
        match self.number("pooling_type")? {
            None | Some(0) => Ok(None),
            Some(1) => Ok(Some(Pooling::Mean)),
            Some(2) => Ok(Some(Pooling::First)),
            Some(3) => Ok(Some(Pooling::Last)),
            // Of two texts, how well they go together.
            Some(_) => Err(self.refused("pooling_type")),
        }
    }

    /// Refuses what would change the computation and was not read, in a network whose tokens attend
    /// to those behind them or do not.
    pub(super) fn refuse_unread(&self, is_encoder: bool) -> Result<(), Error> {
        let key = self.key("attention.causal");
        if let Some(causal) = self.metadata.bool(&key)?.filter(|causal| *causal == is_encoder) {
            return Err(Error::Option { key, value: causal.to_string() });
        }
        for (name, neutral) in COMPUTED {
            if self.read.borrow().contains(*name) || self.ignored.contains(name) {
                continue;
            }
            let key = format!("{}.{name}", self.prefix);
            if let Some(value) = self.metadata.get(&key).filter(|it| !is_neutral(it, *neutral)) {
                return Err(Error::Option { key, value: value.to_string() });
            }
        }
        Ok(())
    }
}

/// Whether a value is 0, false, or another that changes nothing.
#[expect(clippy::float_cmp, reason = "only exactly that changes nothing")]
fn is_neutral(value: &Value, neutral: f64) -> bool {
    let number = match value {
        Value::F32(number) => f64::from(*number),
        Value::F64(number) => *number,
        Value::Bool(value) => f64::from(u8::from(*value)),
        other => match other.as_u64() {
            Some(0) => 0.0,
            Some(1) => 1.0,
            _ => return false,
        },
    };
    number == neutral || number == 0.0
}

/// Checks that a number is not zero, and not too large.
pub(super) fn in_range(key: String, value: u64, most: u32) -> Result<u32, Error> {
    match u32::try_from(value) {
        Ok(value) if (1..=most).contains(&value) => Ok(value),
        _ => Err(Error::Range { key, value, most }),
    }
}

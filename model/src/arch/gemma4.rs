//! Gemma 4, the large ones without experts: heads that are wider where there is no window, norms of
//! values, and keys for values. What the small ones have (inputs for each block, keys and values of
//! other blocks) is refused by its key, and experts are, too.

use polychord_abi::network::feature;
use polychord_abi::transformer::NO_FACTORS;

use super::gemma::scale_embedding;
use super::{Architecture, Pairs, Result};
use crate::network::{Config, Keys};

pub(super) const GEMMA4: Architecture = Architecture {
    features: feature::GELU
        | feature::POST_NORMS
        | feature::HEAD_NORMS
        | feature::VALUE_NORMS
        | feature::BLOCK_SCALE,
    read,
    ..Architecture::new("gemma4", "Gemma 4 31B", Pairs::Halves)
};

fn read(keys: &Keys<'_>, config: &mut Config) -> Result<()> {
    scale_embedding(config);
    config.logit_cap = keys.cap("final_logit_softcapping")?.unwrap_or(30.0);
    let window = keys.window()?.ok_or_else(|| keys.missing("attention.sliding_window"))?;
    let pattern = "attention.sliding_window_pattern";
    if !keys.is_there(pattern) {
        return Err(keys.missing(pattern));
    }
    let local = keys.local_blocks(config, 1)?;
    let width = keys.optional("attention.key_length_swa", u32::MAX)?.unwrap_or(config.head_dim);
    let values = keys.optional("attention.value_length_swa", u32::MAX)?.unwrap_or(width);
    if width != values {
        return Err(crate::network::Error::ValueLength { keys: width, values });
    }
    let turned = keys.optional("rope.dimension_count_swa", u32::MAX)?.unwrap_or(width);
    let base = keys.positive("rope.freq_base_swa")?.unwrap_or(10_000.0);
    let rope = config.add_plain_rope(base);
    let plain = &mut config.ropes[1];
    (plain.dim, plain.factors) = (turned, NO_FACTORS);
    let scale = keys.factor("attention.scale")?.unwrap_or(1.0);
    config.each(|number, block| {
        block.attention_scale = scale;
        if local[number] {
            (block.window, block.rope, block.head_dim) = (window, rope, width);
        }
        if !keys.has_tensor(&format!("blk.{number}.attn_v.weight")) {
            block.features |= feature::KEYS_AS_VALUES;
        }
    });
    Ok(())
}

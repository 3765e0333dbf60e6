//! Llama 1 to 3, and what has its graph: Mistral, Mixtral, SmolLM2, TinyLlama, Yi, `DeepSeek` LLM.
//!
//! The common ground of all families: RMS norms in front of attention and feed-forward, rotation
//! of neighbors, SwiGLU.

use super::{Architecture, Pairs, Result};
use crate::network::{Config, Experts, Keys};

pub(super) const LLAMA: Architecture = Architecture {
    // llama.cpp does not look at the window of Mistral 7B either.
    ignored: &["attention.sliding_window"],
    read,
    ..Architecture::new(
        "llama",
        "Llama 2 and 3, Mistral 7B, Mixtral, SmolLM2, TinyLlama",
        Pairs::Neighbors,
    )
};

fn read(keys: &Keys<'_>, config: &mut Config) -> Result<()> {
    let width = config.ffn;
    config.read_experts(keys, Experts::softmax(width).renormalized())
}

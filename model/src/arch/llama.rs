//! Llama 1 to 3, and what has its graph: Mistral, SmolLM2, TinyLlama, Yi, `DeepSeek` LLM.
//!
//! The common ground of all families: RMS norms in front of attention and feed-forward, rotation
//! of neighbors, SwiGLU.

use polychord_abi::network::feature;

use super::Architecture;

pub(super) const LLAMA: Architecture =
    Architecture { name: "llama", features: 0, optional: feature::QKV_BIAS | feature::TIED_OUTPUT };

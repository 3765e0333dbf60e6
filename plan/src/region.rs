//! Names of the regions that a memory is divided into. A program may use others beside them.

/// Name of the region for the weights of a model.
pub const WEIGHTS: &str = "weights";
/// Name of the region for a KV cache.
pub const KV: &str = "kv";
/// Name of the region for what a network computes on its way.
pub const ACTIVATIONS: &str = "activations";
/// Name of the region for the embeddings of tokens.
pub const EMBEDDINGS: &str = "embeddings";

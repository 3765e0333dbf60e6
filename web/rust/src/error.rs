//! Errors as JavaScript gets them: a message for people.

/// Why something is refused.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// The header of the file.
    #[error(transparent)]
    Gguf(#[from] polychord_model::gguf::Error),
    /// A part of a model whose name does not tell the others.
    #[error(
        "this is part {part} of {count} of a model, and its name, {name:?}, does not tell the others: give each part the name that it was published under, as in model-00001-of-00003.gguf"
    )]
    PartName {
        /// Its number, from 1.
        part: u32,
        /// How many there are.
        count: u32,
        /// What it is called.
        name: String,
    },
    /// The network in it.
    #[error(transparent)]
    Config(#[from] polychord_model::config::Error),
    /// A network without a next token.
    #[error(
        "this model makes vectors of texts and no text, which is not computed here: use `polychord embed`"
    )]
    Encoder,
    /// Its vocabulary.
    #[error(transparent)]
    Tokenizer(#[from] polychord_model::tokenizer::Error),
    /// Its template, or a conversation.
    #[error(transparent)]
    Chat(#[from] polychord_model::chat::Error),
    /// Logits or options of sampling.
    #[error(transparent)]
    Sampler(#[from] polychord_model::sampler::Error),
    /// A plan.
    #[error(transparent)]
    Plan(#[from] polychord_plan::Error),
    /// Rows that a cache of a type cannot have.
    #[error(transparent)]
    CacheType(#[from] polychord_model::UnevenRow),
    /// The memory for keys and values of a plan.
    #[error("this plan cannot be used: {0}")]
    Cache(#[from] polychord_model::demand::CacheTooSmall),
    /// JSON that the caller gave.
    #[error("{what}: {reason}")]
    Json {
        /// What it was for.
        what: &'static str,
        /// What is wrong in it.
        reason: serde_json::Error,
    },
    /// A model with a context that it does not have.
    #[error("a context of {asked} tokens was asked for, and the model has 1 to {limit}")]
    Context {
        /// What was asked for.
        asked: u32,
        /// What the model has.
        limit: u32,
    },
    /// A number that is out of its range.
    #[error("{option} is {asked}, and has to be {least} to {most}")]
    Number {
        /// Its name.
        option: &'static str,
        /// What was asked for.
        asked: u64,
        /// The least.
        least: u64,
        /// The most.
        most: u64,
    },
    /// A guest that would be larger than its memory.
    #[error(
        "{placement} needs {weights} bytes of weights and {cache} bytes for {context} tokens of context in guest {guest}, and a 32-bit memory here has {limit}: use a shorter context, or another placement"
    )]
    TooLarge {
        /// What was asked for.
        placement: &'static str,
        /// The first guest that is too large.
        guest: u32,
        /// Bytes of weights.
        weights: u64,
        /// Bytes of cache and activations.
        cache: u64,
        /// Tokens.
        context: u32,
        /// The most that there is.
        limit: u64,
    },
    /// A network with more than the graph of Llama.
    #[error(
        "this network has {what}, for which WebGPU has no kernels here: use the guest, which computes all networks"
    )]
    NotPlain {
        /// What else it has.
        what: String,
    },
    /// What the host has not.
    #[error("{placement} is not available here: {reason}")]
    Unavailable {
        /// What was asked for.
        placement: &'static str,
        /// Why.
        reason: String,
    },
    /// A plan that is for other guests.
    #[error("this plan cannot be used: {0}")]
    Unusable(String),
}

/// What can go wrong here.
pub(crate) type Result<T> = std::result::Result<T, Error>;

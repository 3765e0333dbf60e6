//! Errors of opening and running models.

mod kind;

use std::path::PathBuf;

use polychord_model::{UnevenRow, chat, config, gguf, sampler, tokenizer};
use polychord_runtime_api::Printable;

pub use kind::ErrorKind;

/// The result of running a model.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why a model cannot be opened or run.
///
/// [`kind`](Self::kind) says what a program can do about it, [`engine`](Self::engine) and
/// [`operation`](Self::operation) where it happened; the message names the cause, too, so that
/// [`source`](std::error::Error::source) does not repeat it.
///
/// ```
/// use polychord_session::{ErrorKind, Model};
///
/// let error = Model::open("/no/such/model.gguf").unwrap_err();
/// assert_eq!(error.kind(), ErrorKind::Io);
/// println!("{error}");
/// ```
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The file is not a GGUF file that can be read.
    #[error("cannot read {} as a GGUF model: {reason}", Printable(path.display()))]
    Gguf {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: gguf::Error,
    },
    /// The file is fine, but the network in it is not one that the guest computes.
    #[error("cannot run the model in {}: {reason}", Printable(path.display()))]
    Config {
        /// The file.
        path: PathBuf,
        /// Why not.
        reason: config::Error,
    },
    /// The vocabulary cannot be used.
    #[error("cannot use the model's vocabulary: {0}")]
    Tokenizer(tokenizer::Error),
    /// The chat template cannot be used.
    #[error("cannot use the model's chat template: {0}")]
    Chat(chat::Error),
    /// The sampling options are wrong, or the logits cannot be sampled.
    #[error("cannot choose a token: {0}")]
    Sampler(sampler::Error),
    /// The engine or the host refused.
    #[error(transparent)]
    Runtime(#[from] polychord_runtime_api::Error),
    /// The guest refused.
    #[error("the transformer guest refused {operation}: {} (status {status})", Printable(reason))]
    Guest {
        /// The export that was called.
        operation: &'static str,
        /// What it returned.
        status: i32,
        /// What that means, and why if the host knows.
        reason: String,
    },
    /// The module is not a transformer guest of this version.
    #[error(
        "the guest speaks version {found} of the transformer contract, this host version {expected}: rebuild it with scripts/build-guest"
    )]
    GuestVersion {
        /// Version of the guest.
        found: i32,
        /// Version of this host.
        expected: i32,
    },
    /// Weights, cache and activations do not fit into the guests' memories.
    #[error(
        "guest {guest} of the placement {placement} would hold {weights} bytes of weights and {cache} of cache for {context} tokens and of activations, but a 32-bit memory has at most {limit} bytes: use the placement sharded32 with more memories, paged with a smaller resident budget, a smaller quantization or a shorter context"
    )]
    TooLargeForMemory32 {
        /// Name of the placement.
        placement: &'static str,
        /// Number of the guest.
        guest: u32,
        /// Bytes of weights, with their places.
        weights: u64,
        /// Bytes of cache and activations.
        cache: u64,
        /// Positions of the cache.
        context: u32,
        /// Most bytes of a memory.
        limit: u64,
    },
    /// The guests of a session need more memory than its options allow.
    #[error(
        "the {guests} guests of the placement {placement} need {least} bytes for weights, caches and activations, but memory_bytes allows {limit}: allow {least}, or use a shorter context, a smaller batch, fewer ranks, or the placement paged with a smaller resident budget"
    )]
    MemoryBytes {
        /// Name of the placement.
        placement: &'static str,
        /// How many guests there are, of all ranks in this process.
        guests: usize,
        /// The least that works.
        least: u64,
        /// What the options allow.
        limit: u64,
    },
    /// The engine has no memory of the kind that a placement is about.
    #[error(
        "the placement {placement} is not supported by this engine ({reason}): it is supported by {available}; resident32, sharded32 and paged run on every engine, with the same results"
    )]
    Unavailable {
        /// Name of the placement.
        placement: &'static str,
        /// What the engine lacks.
        reason: polychord_runtime_api::Error,
        /// What engines have that support it.
        available: &'static str,
    },
    /// The model's keys and values cannot be stored in that type of cache.
    #[error(transparent)]
    CacheType(#[from] UnevenRow),
    /// The blocks of a plan cannot be run in order.
    #[error("the plan cannot be run: {}", Printable(reason))]
    Plan {
        /// What is wrong with it.
        reason: String,
    },
    /// A number in the options that cannot be.
    #[error("{option} of {asked} is not possible: {least} to {most} are")]
    Number {
        /// Which option.
        option: &'static str,
        /// What was asked for.
        asked: u64,
        /// The least that is possible.
        least: u64,
        /// The most that is possible.
        most: u64,
    },
    /// The context asked for is zero or longer than the model's.
    #[error("a context of {asked} tokens is not possible: the model was made for 1 to {limit}")]
    Context {
        /// What was asked for.
        asked: u32,
        /// The model's own context.
        limit: u32,
    },
    /// The network cannot be divided among that many ranks.
    #[error("{asked} ranks are not possible: the model's {limit} heads are for 1 to {limit}")]
    Ranks {
        /// What was asked for.
        asked: u32,
        /// The most that is possible.
        limit: u32,
    },
    /// The ranks of a group were not started alike.
    #[error(
        "the ranks were not started alike; start all with the same program, model and options ({})",
        Printable(differences.join("; "))
    )]
    RanksDiffer {
        /// What differs, and on which ranks.
        differences: Vec<String>,
    },
    /// The session was not given the rank that this takes.
    #[error("cannot {operation}: the session was given no rank for it (SessionOptions::rank)")]
    NoRank {
        /// What was to be done.
        operation: &'static str,
    },
    /// Other ranks follow a session that was to do what they are not told of.
    #[error(
        "a session that leads other ranks cannot be forked or make vectors: dismiss them before"
    )]
    Leading,
    /// The system gives no thread to a rank.
    #[error("there is no thread for rank {rank} ({reason}): use fewer ranks")]
    Thread {
        /// Which rank.
        rank: usize,
        /// Why not.
        reason: std::io::Error,
    },
    /// More tokens than the context has room for.
    #[error(
        "{asked} more tokens do not fit in the context of {context} tokens, of which {used} are used: shorten the prompt or make the context longer (the model allows {limit})"
    )]
    ContextFull {
        /// Tokens to add.
        asked: usize,
        /// Tokens there already.
        used: u32,
        /// Size of the context.
        context: u32,
        /// The model's own context.
        limit: u32,
    },
    /// A sequence cannot be truncated to more tokens than it has.
    #[error("cannot truncate the sequence to {asked} tokens: it has {position}")]
    Truncate {
        /// How many tokens were to be kept.
        asked: u32,
        /// How many there are.
        position: u32,
    },
    /// A model that gives no text.
    #[error("the model gives embeddings, and no text: use `polychord embed`, or Session::embed")]
    Encoder,
    /// It is not known what is left of a text.
    #[error(
        "the model's file does not say what is left of a text as its embedding: choose a pooling (--pooling mean, cls or last)"
    )]
    Pooling,
    /// A snapshot or a receipt is refused.
    #[error(transparent)]
    Receipt(#[from] polychord_receipts::Error),
    /// A session that is one rank of several cannot be saved alone.
    #[error(
        "this session is rank {rank} of {ranks}, and the others have keys and values of heads that are not here: save a session that has all ranks in its process"
    )]
    PartOfRanks {
        /// Which rank it is.
        rank: usize,
        /// How many there are.
        ranks: usize,
    },
    /// A session that is one stage of several has the state of its blocks alone.
    #[error(
        "cannot {operation}: this session is one stage of several, and the others have the state of their blocks; use a session that has all guests in its process"
    )]
    PartOfStages {
        /// What was to be done.
        operation: &'static str,
    },
    /// A window of steps that a receipt does not have.
    #[error("there are no steps {start}..{end}: the receipt has 0..{steps}")]
    Window {
        /// The first step.
        start: u64,
        /// The first behind the last step.
        end: u64,
        /// How many steps there are.
        steps: u64,
    },
    /// A stop text without a character.
    #[error("a stop text is empty, which would end every answer before it begins: leave it out")]
    EmptyStop,
    /// What an answer is held to does not let it go on.
    #[error("the answer cannot be held to its format: {reason}")]
    Format {
        /// Why not.
        reason: String,
    },
    /// A session that computes in another process is gone, or could not do what was asked.
    #[error("{}", Printable(reason))]
    Isolated {
        /// What happened, in the words of the crate that has the process.
        reason: String,
    },
    /// There is nothing to start from.
    #[error("the prompt has no tokens, and the model adds none: give some text")]
    EmptyPrompt,
}

impl From<polychord_runtime_api::plan::Error> for Error {
    fn from(error: polychord_runtime_api::plan::Error) -> Self {
        Self::Runtime(error.into())
    }
}

impl From<tokenizer::Error> for Error {
    fn from(error: tokenizer::Error) -> Self {
        Self::Tokenizer(error)
    }
}

impl From<chat::Error> for Error {
    fn from(error: chat::Error) -> Self {
        Self::Chat(error)
    }
}

impl From<sampler::Error> for Error {
    fn from(error: sampler::Error) -> Self {
        Self::Sampler(error)
    }
}

//! Errors of reading a network's configuration and tensors.

use crate::ErrorKind;
use crate::gguf::{self, GgmlType};

/// Why a model cannot be run.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A metadata value has the wrong type.
    #[error(transparent)]
    Gguf(#[from] gguf::Error),
    /// A part of a model.
    #[error(
        "the file is part {part} of {count} of a split model, and the others were not given with it: open it by its path, with all parts in one folder under the names that they were downloaded under"
    )]
    Split {
        /// Which part, from 1.
        part: u64,
        /// How many there are.
        count: u64,
    },
    /// An architecture that is not supported.
    #[error(
        "architecture {found:?} is not supported, supported are {supported}: choose a model of one of these"
    )]
    Architecture {
        /// What `general.architecture` says.
        found: String,
        /// The names of those that are.
        supported: String,
    },
    /// A key that is needed.
    #[error("key {key:?} is missing: convert the model again with a current converter")]
    Missing {
        /// The key.
        key: String,
    },
    /// An integer outside of what can be.
    #[error(
        "{key:?} is {value}, allowed are 1 to {most}: the file is damaged or not a usable model"
    )]
    Range {
        /// The key or tensor.
        key: String,
        /// The value found.
        value: u64,
        /// The largest that is accepted.
        most: u32,
    },
    /// Blocks of different sizes.
    #[error(
        "{key:?} is not one number for all blocks, which is not supported: choose a model whose blocks are alike"
    )]
    PerBlock {
        /// The key.
        key: String,
    },
    /// An array with a number for each block that has another length.
    #[error(
        "{key:?} has {found} elements for {blocks} blocks: the file is damaged or mixes parts of different models"
    )]
    ArrayLength {
        /// The key.
        key: String,
        /// Elements of the array.
        found: usize,
        /// Number of blocks.
        blocks: u32,
    },
    /// A feed-forward part that is too wide, or has too many experts.
    #[error(
        "feed_forward_length {ffn}, or expert_count {experts} with {width} rows each (of expert_feed_forward_length or embedding_length), overflow 32 bits: the file is damaged or not a usable model"
    )]
    FeedForwardWidth {
        /// Width of what is not divided.
        ffn: u32,
        /// Number of experts.
        experts: u32,
        /// Rows of the widest matrix of one.
        width: u32,
    },
    /// A float that must be finite and above zero.
    #[error(
        "{key:?} is {value}, it must be a finite number above 0: the file is damaged or not a usable model"
    )]
    Float {
        /// The key.
        key: String,
        /// The value found.
        value: f32,
    },
    /// An option that changes the computation in a way the guest does not implement.
    #[error(
        "{key:?} is {value}, which is not supported: leaving it out would give wrong text: choose another model of this family, or another family (docs/families.md lists them)"
    )]
    Option {
        /// The key.
        key: String,
        /// The value found.
        value: String,
    },
    /// A norm, a bias or a factor that is no number.
    #[error(
        "element {element} of tensor {tensor:?} is {number}, it must be a finite number: the file is damaged, or was converted from a damaged one: download or convert it again"
    )]
    NotFinite {
        /// The tensor.
        tensor: String,
        /// Which of its elements, from 0.
        element: u64,
        /// What it is.
        number: f32,
    },
    /// Rotary scaling other than linear.
    #[error(
        "rope.scaling.type {kind:?} is not supported, only \"none\", \"linear\", \"yarn\" and \"longrope\" are: choose a model with one of these"
    )]
    RopeScaling {
        /// The kind found.
        kind: String,
    },
    /// The hidden state is not evenly split over heads.
    #[error(
        "embedding_length {dim} is no multiple of attention.head_count {heads}, and attention.key_length is missing: the file is damaged or not a usable model"
    )]
    HeadDim {
        /// Width of the hidden state.
        dim: u32,
        /// Number of heads.
        heads: u32,
    },
    /// Keys and values of different widths.
    #[error(
        "attention.key_length is {keys} and attention.value_length {values}; only equal widths are supported: choose a model whose heads have one"
    )]
    ValueLength {
        /// Width of a head's keys.
        keys: u32,
        /// Width of a head's values.
        values: u32,
    },
    /// Query heads that are not evenly shared.
    #[error(
        "attention.head_count {heads} is no multiple of attention.head_count_kv {kv_heads}: the file is damaged or not a usable model"
    )]
    HeadGroups {
        /// Query heads.
        heads: u32,
        /// Key and value heads.
        kv_heads: u32,
    },
    /// All heads together are too wide.
    #[error(
        "attention.head_count {heads} with {head_dim} elements each (by attention.key_length, attention.key_length_swa, attention.kv_lora_rank or embedding_length) overflow 32 bits: the file is damaged or not a usable model"
    )]
    HeadWidth {
        /// Query heads.
        heads: u32,
        /// Width of one.
        head_dim: u32,
    },
    /// An impossible rotated width.
    #[error(
        "rope.dimension_count {rope_dim} must be even and at most the head width {head_dim}: the file is damaged or not a usable model"
    )]
    RopeDim {
        /// Rotated elements of a head.
        rope_dim: u32,
        /// All elements of a head.
        head_dim: u32,
    },
    /// The tokenizer does not fit the embedding.
    #[error(
        "{key:?} names {tokens} tokens, but token_embd.weight has {rows} rows: the file mixes parts of different models"
    )]
    Vocab {
        /// The key.
        key: String,
        /// Tokens it names.
        tokens: u64,
        /// Rows of the embedding.
        rows: u64,
    },
    /// A tensor that the network needs.
    #[error(
        "tensor {name:?} is missing: the file is incomplete, a part of a split model, or only a vocabulary"
    )]
    MissingTensor {
        /// The tensor.
        name: String,
    },
    /// A tensor that this program does not know what to do with.
    #[error(
        "tensor {name:?} is not part of a plain {architecture} network of {blocks} blocks; leaving it out would give wrong text, so the model is refused: choose a model without it"
    )]
    UnknownTensor {
        /// The tensor.
        name: String,
        /// The network's architecture.
        architecture: &'static str,
        /// Number of blocks by the metadata.
        blocks: u32,
    },
    /// A tensor that does not fit the metadata.
    #[error(
        "tensor {name:?} has shape {found:?}, but the metadata require {expected:?} (contiguous dimension first): the file mixes parts of different models"
    )]
    TensorShape {
        /// The tensor.
        name: String,
        /// Dimensions of the tensor.
        found: Vec<u64>,
        /// Dimensions that the metadata require.
        expected: Vec<u64>,
    },
    /// A tensor type that the guest has no kernels for.
    #[error("tensor {name:?} has type {dtype}, supported are {supported}: quantize the model to one of these, for example with llama-quantize", supported = GgmlType::supported_names())]
    TensorType {
        /// The tensor.
        name: String,
        /// Type of the tensor.
        dtype: GgmlType,
    },
    /// A vector in a type that the guest only has for matrices.
    #[error(
        "tensor {name:?} is a vector of type {dtype}, but vectors must be F32: convert the model again with a current converter"
    )]
    VectorType {
        /// The tensor.
        name: String,
        /// Type of the tensor.
        dtype: GgmlType,
    },
}

impl Error {
    /// What went wrong, for programs that act on it.
    #[must_use]
    pub const fn kind(&self) -> ErrorKind {
        match self {
            Self::Gguf(error) => error.kind(),
            Self::Split { .. }
            | Self::Architecture { .. }
            | Self::Option { .. }
            | Self::RopeScaling { .. }
            | Self::ValueLength { .. }
            | Self::UnknownTensor { .. }
            | Self::TensorType { .. }
            | Self::VectorType { .. } => ErrorKind::Unsupported,
            _ => ErrorKind::InvalidFile,
        }
    }
}

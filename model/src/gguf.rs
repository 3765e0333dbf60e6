//! Reads the header of a GGUF file: metadata, and where each tensor is.
//!
//! A file is hostile until read: every count and length is checked against the bytes that
//! the file still has, and against fixed limits, before anything is allocated for it.
//! Tensor data is never read here.

mod error;
mod foreign;
mod ggml_type;
mod header;
mod parts;
mod reader;
mod tensor;
mod value;
mod value_type;

pub use error::Error;
pub use ggml_type::GgmlType;
pub use polychord_plan::Part;
pub use tensor::TensorInfo;
pub use value::{Array, Metadata, StringArray, Value};
pub use value_type::ValueType;

/// The header of a GGUF file (version 2 or 3, little endian).
///
/// ```no_run
/// use std::fs::File;
/// use std::io::BufReader;
///
/// use polychord_model::gguf::Gguf;
///
/// let file = File::open("model.gguf")?;
/// let len = file.metadata()?.len();
/// let gguf = Gguf::read(BufReader::new(file), len)?;
/// println!("{:?}", gguf.metadata().str("general.architecture")?);
/// for tensor in gguf.tensors() {
///     println!("{tensor:?}");
/// }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct Gguf {
    version: u32,
    alignment: u64,
    file_len: u64,
    data_offset: u64,
    metadata: Metadata,
    tensors: Vec<TensorInfo>,
    parts: u32,
}

impl Gguf {
    /// Version of the format: 2 or 3.
    #[must_use]
    pub fn version(&self) -> u32 {
        self.version
    }

    /// Alignment of tensor data in bytes, a power of two.
    #[must_use]
    pub fn alignment(&self) -> u64 {
        self.alignment
    }

    /// Length of the whole file in bytes, or of all files together.
    #[must_use]
    pub fn file_len(&self) -> u64 {
        self.file_len
    }

    /// Where tensor data starts, in bytes from the start of the file.
    #[must_use]
    pub fn data_offset(&self) -> u64 {
        self.data_offset
    }

    /// Key-value pairs in file order.
    #[must_use]
    pub fn metadata(&self) -> &Metadata {
        &self.metadata
    }

    /// Tensors in file order.
    #[must_use]
    pub fn tensors(&self) -> &[TensorInfo] {
        &self.tensors
    }

    /// How many files it was [`joined`](Self::joined) from; 1 for one file, whole or not.
    #[must_use]
    pub fn parts(&self) -> u32 {
        self.parts
    }

    /// The tensor with this name.
    #[must_use]
    pub fn tensor(&self, name: &str) -> Option<&TensorInfo> {
        self.tensors.iter().find(|tensor| tensor.name == name)
    }
}

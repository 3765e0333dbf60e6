//! Errors of reading a GGUF file.

use std::io;
use std::path::PathBuf;

use super::{GgmlType, ValueType};
use crate::ErrorKind;

const DAMAGED: &str = "the file is damaged or was not downloaded completely: get it again";

/// Why a GGUF file was refused. Offsets count bytes from the start of the file.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The file cannot be opened.
    #[error("cannot open {path:?}: {source}")]
    Open {
        /// The path as given.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A directory, pipe or device.
    #[error("{path:?} is {found}, not a regular file: name the .gguf file itself")]
    NotAFile {
        /// The path as given.
        path: PathBuf,
        /// What is there.
        found: &'static str,
    },
    /// The system failed to read.
    #[error("cannot read {what} at byte {offset}: {source}")]
    Read {
        /// What was being read.
        what: &'static str,
        /// Where.
        offset: u64,
        /// What the system said.
        source: io::Error,
    },
    /// The file ends inside the header.
    #[error(
        "the file ends at byte {file_len}, inside {what} at byte {offset} ({need} bytes are missing or claimed); {DAMAGED}"
    )]
    Truncated {
        /// What was being read.
        what: &'static str,
        /// Where it starts.
        offset: u64,
        /// How many bytes it needs.
        need: u64,
        /// Where the file ends.
        file_len: u64,
    },
    /// Not a GGUF file at all.
    #[error("the file is {found}, not a GGUF file (it starts with {magic:02x?}): {advice}")]
    Magic {
        /// First four bytes.
        magic: [u8; 4],
        /// What it seems to be.
        found: &'static str,
        /// How to get the right one.
        advice: &'static str,
    },
    /// A big-endian file.
    #[error(
        "the file is big endian (version field {version:#010x}): convert it to little endian, for example with gguf-py's gguf_convert_endian"
    )]
    BigEndian {
        /// The version field as read.
        version: u32,
    },
    /// A version of the format that is not known.
    #[error(
        "GGUF version {version} is not supported, only 2 and 3: convert the model again with a current converter"
    )]
    Version {
        /// The version field.
        version: u32,
    },
    /// A count that the rest of the file cannot hold.
    #[error(
        "{count} {what} at byte {offset} need at least {need} bytes each, but {remaining} bytes remain; {DAMAGED}"
    )]
    Count {
        /// What is counted.
        what: &'static str,
        /// Where the count is.
        offset: u64,
        /// The count.
        count: u64,
        /// Least size of one, in bytes.
        need: u64,
        /// Bytes from there to the end of the file.
        remaining: u64,
    },
    /// More than this reader accepts of anything.
    #[error(
        "{count} {what} at byte {offset} are more than the limit of {limit}: no known model needs that, the file is not trustworthy"
    )]
    Limit {
        /// What is counted.
        what: &'static str,
        /// Where it is.
        offset: u64,
        /// The count.
        count: u64,
        /// The most that is accepted.
        limit: u64,
    },
    /// A name that is not UTF-8.
    #[error("{what} at byte {offset} is not UTF-8 ({text:?}); {DAMAGED}")]
    Utf8 {
        /// Which string.
        what: &'static str,
        /// Where its length is.
        offset: u64,
        /// What can be shown of it.
        text: String,
    },
    /// A value that is needed and not UTF-8.
    #[error(
        "{} key {key:?} is not UTF-8 ({text:?}), and the model cannot be used without it: convert the model again with a current converter",
        part(element)
    )]
    ValueUtf8 {
        /// The key.
        key: String,
        /// Which of several strings, from 0.
        element: Option<usize>,
        /// What can be shown of it.
        text: String,
    },
    /// A key or name that is empty.
    #[error("{what} at byte {offset} is empty; {DAMAGED}")]
    Empty {
        /// Which string.
        what: &'static str,
        /// Where it is.
        offset: u64,
    },
    /// A value type that is not known.
    #[error(
        "key {key:?} has value type {kind} at byte {offset}, known are 0 to 12: convert the model again with a current converter"
    )]
    ValueKind {
        /// Key of the value.
        key: String,
        /// The number found.
        kind: u32,
        /// Where it is.
        offset: u64,
    },
    /// An array of arrays.
    #[error(
        "key {key:?} is an array of arrays (byte {offset}), which no known model uses and this reader refuses: remove the key"
    )]
    NestedArray {
        /// Key of the value.
        key: String,
        /// Where the element type is.
        offset: u64,
    },
    /// A bool that is neither 0 nor 1.
    #[error(
        "key {key:?} has the byte {value} at {offset} as a bool, which must be 0 or 1; {DAMAGED}"
    )]
    Bool {
        /// Key of the value.
        key: String,
        /// The byte found.
        value: u8,
        /// Where it is.
        offset: u64,
    },
    /// The same key twice.
    #[error(
        "key {key:?} stands twice, the second time at byte {offset}: it is not clear which is meant; convert the model again"
    )]
    DuplicateKey {
        /// The key.
        key: String,
        /// Where the second one starts.
        offset: u64,
    },
    /// The same tensor name twice.
    #[error(
        "tensor {name:?} stands twice in the tensor list: it is not clear which is meant; convert the model again"
    )]
    DuplicateTensor {
        /// The name.
        name: String,
    },
    /// `general.alignment` is unusable.
    #[error(
        "general.alignment is {alignment}: it must be a power of two between 8 and 2^30; convert the model again"
    )]
    Alignment {
        /// The value found.
        alignment: u64,
    },
    /// A tensor with no or too many dimensions.
    #[error(
        "tensor {name:?} has {count} dimensions (byte {offset}), allowed are 1 to 4; {DAMAGED}"
    )]
    Dimensions {
        /// The tensor.
        name: String,
        /// Number of dimensions.
        count: u32,
        /// Where that number is.
        offset: u64,
    },
    /// A tensor with a dimension of zero, or more elements or bytes than 63 bits count.
    #[error("tensor {name:?} has the impossible shape {dims:?}; {DAMAGED}")]
    Shape {
        /// The tensor.
        name: String,
        /// Dimensions of the tensor, the contiguous one first.
        dims: Vec<u64>,
    },
    /// A tensor type that ggml does not define (any more).
    #[error(
        "tensor {name:?} has type number {dtype} (byte {offset}), which ggml does not define or has removed: quantize the model again with a current tool"
    )]
    TensorType {
        /// The tensor.
        name: String,
        /// The number found.
        dtype: u32,
        /// Where it is.
        offset: u64,
    },
    /// Rows that are not whole quantization blocks.
    #[error(
        "tensor {name:?} has rows of {columns} elements, which is no multiple of the {block} in a block of {dtype}; {DAMAGED}"
    )]
    Blocks {
        /// The tensor.
        name: String,
        /// Type of the tensor.
        dtype: GgmlType,
        /// Elements in a row.
        columns: u64,
        /// Elements in a block.
        block: u64,
    },
    /// Tensor data that does not start at a multiple of the alignment.
    #[error(
        "tensor {name:?} starts {offset} bytes into the data, which is no multiple of the alignment {alignment}; {DAMAGED}"
    )]
    Misaligned {
        /// The tensor.
        name: String,
        /// Bytes from the start of tensor data.
        offset: u64,
        /// The alignment, in bytes.
        alignment: u64,
    },
    /// Tensor data beyond the end of the file.
    #[error(
        "tensor {name:?} has {bytes} bytes at {offset} in the data, which starts at byte {data_offset}, but the file ends at byte {file_len}; {DAMAGED}"
    )]
    OutsideFile {
        /// The tensor.
        name: String,
        /// Bytes from the start of tensor data.
        offset: u64,
        /// Size of the tensor's data.
        bytes: u64,
        /// Where tensor data starts.
        data_offset: u64,
        /// Where the file ends.
        file_len: u64,
    },
    /// Two tensors that share bytes.
    #[error(
        "tensors {first:?} (to byte {end}) and {second:?} (from byte {start}) overlap; {DAMAGED}"
    )]
    Overlap {
        /// The tensor that starts first.
        first: String,
        /// Where the first ends, in bytes from the start of the file.
        end: u64,
        /// The tensor that starts second.
        second: String,
        /// Where the second starts, in bytes from the start of the file.
        start: u64,
    },
    /// A part of a split model that does not fit to the others.
    #[error(
        "part {part} of {count} of the model cannot be used: {problem}; download all parts again"
    )]
    Part {
        /// Which part, from 1.
        part: u64,
        /// How many there should be.
        count: u64,
        /// What is wrong.
        problem: String,
    },
    /// A part of a split model that is not where the others are.
    #[error(
        "part {part} of {count} of the model is missing: cannot open {path:?}: {source}; all parts have to be in one folder, under the names that they were downloaded under"
    )]
    PartMissing {
        /// Which part, from 1.
        part: u32,
        /// How many there should be.
        count: u32,
        /// Where it should be.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A part of a split model whose name does not tell where the others are.
    #[error(
        "{path:?} is part {part} of {count} of a model, but its name does not end in -{part:05}-of-{count:05}.gguf, so the others cannot be found: give all parts their names back, or join them with llama-gguf-split --merge (not with cat)"
    )]
    PartName {
        /// Which part, from 1.
        part: u32,
        /// How many there are.
        count: u32,
        /// The path as given.
        path: PathBuf,
    },
    /// A key that is needed and absent.
    #[error(
        "key {key:?} is missing: the file does not hold what this model needs; convert the model again with a current converter"
    )]
    MissingKey {
        /// The key.
        key: String,
    },
    /// A key whose value has another type than is needed.
    #[error(
        "key {key:?} is {found}, expected {expected}: convert the model again with a current converter"
    )]
    WrongType {
        /// The key.
        key: String,
        /// What is needed.
        expected: &'static str,
        /// What the file has.
        found: ValueType,
    },
}

impl Error {
    /// What went wrong, for programs that act on it.
    #[must_use]
    pub const fn kind(&self) -> ErrorKind {
        match self {
            Self::Open { .. } | Self::Read { .. } | Self::PartMissing { .. } => ErrorKind::Io,
            Self::Version { .. } | Self::BigEndian { .. } => ErrorKind::Unsupported,
            _ => ErrorKind::InvalidFile,
        }
    }
}

fn part(element: &Option<usize>) -> String {
    element.map_or("the value of".into(), |element| format!("string {element} of"))
}

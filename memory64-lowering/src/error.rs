//! Why a module is not lowered.

use std::convert::Infallible;

use wasm_encoder::reencode;

use crate::format::SECTION;

/// Of a memory whose first size is too large.
pub(crate) const BEGINS: &str = "begins with";

/// Why a module cannot be lowered.
///
/// ```
/// use polychord_memory64_lowering::{Error, Options, lower};
///
/// let wasm = wat::parse_str("(module (memory i64 0 1000000))").unwrap();
/// let error = lower(&wasm, &Options::default()).unwrap_err();
/// assert!(matches!(error, Error::Maximum { bytes: 65_536_000_000, .. }));
/// ```
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The bytes are no valid module.
    #[error("the module is not valid: {0}")]
    Invalid(#[from] wasmparser::BinaryReaderError),
    /// The bytes are a component.
    #[error("this is a component, and only core modules can be lowered: lower the modules in it")]
    Component,
    /// The module was lowered before.
    #[error("the module was lowered before (it has the section `{SECTION}`): run it as it is")]
    Lowered,
    /// The module uses something on a 64-bit memory that cannot be lowered.
    #[error(
        "the module has {what}, which cannot be lowered: build it without threads, atomics \
         and proposals that are not finished"
    )]
    Unsupported {
        /// What it uses.
        what: String,
    },
    /// A memory is, or may become, larger than the options allow.
    #[error(
        "memory {memory} {declares} {bytes} bytes, and at most {most} are allowed: {}",
        way_out(.declares)
    )]
    Maximum {
        /// Index of the memory.
        memory: u32,
        /// What the number of bytes is about.
        declares: &'static str,
        /// Bytes that it declares.
        bytes: u128,
        /// Bytes that are allowed.
        most: u64,
    },
    /// The engine has too few memories.
    #[error(
        "{needed} memories are needed with segments of {segment_bytes} bytes, and the engine has \
         {available}: lower the largest memory (max_memory), or use larger segments (segment_pages)"
    )]
    Memories {
        /// Memories of the lowered module.
        needed: u64,
        /// Memories that there may be.
        available: u32,
        /// Bytes of a segment.
        segment_bytes: u64,
    },
    /// A table with 64-bit indices is too large for one with 32-bit indices.
    #[error("a table begins with {elements} elements, and tables have at most {most}")]
    Table {
        /// Elements that the table begins with.
        elements: u64,
        /// Elements that a table can have.
        most: u64,
    },
    /// A segment or a limit would be imported or exported by a name that is taken.
    #[error(
        "the name `{name}`, which memory {memory} needs when it is divided, is taken: rename it"
    )]
    Name {
        /// Index of the memory.
        memory: u32,
        /// The name.
        name: String,
    },
    /// The module is an object file.
    #[error("the module is an object file (it has the section `{section}`): link it first")]
    Relocatable {
        /// A section that tells so.
        section: String,
    },
    /// The options are not sensible.
    #[error("{name} is {value}, but has to be {wanted}")]
    Options {
        /// Name of the option.
        name: &'static str,
        /// Its value.
        value: u64,
        /// What it may be.
        wanted: &'static str,
    },
    /// The section with the layout cannot be understood.
    #[error(
        "the section `{SECTION}` has version {version} (known: {known}) and segments of \
         {segment_pages} pages: lower the module again"
    )]
    Layout {
        /// Version of the section.
        version: u32,
        /// Pages of a segment.
        segment_pages: u32,
        /// The version that is known.
        known: u32,
    },
    /// The lowered module exceeds a limit that modules have, such as the locals of a function.
    #[error(
        "the lowered module would not be valid: {0}; divide its longest functions, and those with most \
         locals"
    )]
    TooLarge(wasmparser::BinaryReaderError),
}

/// Result of lowering.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What helps where a memory is too large: what it begins with cannot be cut.
fn way_out(declares: &str) -> &'static str {
    match declares {
        BEGINS => "raise the largest memory (max_memory), or build it with a smaller first size",
        _ => "raise the largest memory (max_memory), or cut what it may grow to (cut_maximum)",
    }
}

impl Error {
    /// An error of the encoder, which after validation is about a proposal that it does not know.
    pub(crate) fn reencode(error: reencode::Error<Infallible>) -> Self {
        match error {
            reencode::Error::ParseError(error) => Self::Invalid(error),
            other => Self::Unsupported { what: format!("something unknown ({other})") },
        }
    }
}

//! The state of a sequence on its way from one session to another.
//!
//! A snapshot is a run of blocks of 64 KiB, each with the SHA-256 of all that came before and of
//! itself; in the blocks are sections, each with a name of four letters and its length. All numbers
//! are little-endian, whatever computer it is. docs/snapshots.md of the repository has the format
//! byte by byte.
//!
//! | section | has |
//! | --- | --- |
//! | `META` | [`Meta`]: model, guest, options, and how many positions there are, as JSON |
//! | `TOKN` | the tokens of the sequence, four bytes each |
//! | `ANSW` | [`AnswerState`], as JSON: how tokens are chosen, and how many were drawn. May be missing |
//! | `turn` | [`Turn`]s of a conversation, as JSON. May be missing |
//! | `LGTS` | the logits that were computed last, four bytes each. May be missing |
//! | `ROWS` | keys and values: for each head of each cache a [`RowHeader`], and a row for each position |
//!
//! A section whose name begins with a small letter may be skipped by who does not know it; any other
//! is refused then. State of another kind, as recurrent layers have it, is a section of its own.
//!
//! ```
//! use polychord_receipts::snapshot::{Compression, Meta, Reader, State, Writer};
//! use polychord_receipts::{Digest, Identity};
//!
//! let identity = Identity::new(Digest::of("model"), Digest::of("guest"));
//! let state = State::new(Meta::new(identity, 2), [1, 2, 3]);
//! let mut bytes = Vec::new();
//! let mut writer = Writer::new(&mut bytes, Compression::None)?;
//! state.write(&mut writer)?;
//! let digest = writer.finish()?;
//!
//! let mut reader = Reader::new(&bytes[..])?;
//! assert_eq!(State::read(&mut reader, 100)?.tokens, [1, 2, 3]);
//! assert!(reader.next_section()?.is_none());
//! assert_eq!(reader.finish()?, digest);
//! # Ok::<(), polychord_receipts::Error>(())
//! ```

mod blocks;
mod reader;
mod rows;
mod state;
mod writer;

pub use blocks::Compression;
pub use reader::{Reader, Section};
pub use rows::RowHeader;
pub use state::{AnswerState, Meta, State, Turn};
pub use writer::Writer;

/// The version of the format.
pub const VERSION: u32 = 1;

/// Names of sections.
pub mod tag {
    /// Model, guest, options and position.
    pub const META: [u8; 4] = *b"META";
    /// Tokens.
    pub const TOKENS: [u8; 4] = *b"TOKN";
    /// How tokens are chosen.
    pub const ANSWER: [u8; 4] = *b"ANSW";
    /// Turns of a conversation.
    pub const TURNS: [u8; 4] = *b"turn";
    /// The logits that were computed last.
    pub const LOGITS: [u8; 4] = *b"LGTS";
    /// Keys and values.
    pub const ROWS: [u8; 4] = *b"ROWS";
}

/// What errors call it.
const WHAT: &str = "snapshot";

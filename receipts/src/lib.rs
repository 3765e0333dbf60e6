//! Snapshots of sessions, and receipts of what they computed, as data.
//!
//! - [`snapshot`] is the format in which the state of a sequence travels: blocks of 64 KiB with a
//!   hash chain, and typed sections in them.
//! - [`Receipt`] says what was computed: digests of model, guest, options and prompt, and of the
//!   logits of each step. [`ReceiptBuilder`] makes one, [`StepProof`] proves one step without the
//!   others, [`Key`] signs.
//!
//! Nothing here runs a model. **Invariant:** a [`Receipt`] that exists was checked: its digest, its
//! chain, its tree and its signature agree with its steps. Whether the steps are what the model
//! computes is another question, which only computing them again answers.
//!
//! **Invariant:** no more is allocated than bytes were read, whatever they say.
#![forbid(unsafe_code)]

mod digest;
mod error;
mod identity;
mod key;
mod receipt;

pub mod snapshot;

pub use digest::Digest;
pub use error::{Difference, Error, ErrorKind, Result};
pub use identity::{Identity, LayerDigest, ModelDigests};
pub use key::{Key, PublicKey};
pub use receipt::{Head, Prompt, Receipt, ReceiptBuilder, Signature, Step, StepProof};

//! What was computed, so that anyone can compute it again.

mod builder;
mod form;
mod head;
mod merkle;
mod proof;
mod whole;

pub use builder::ReceiptBuilder;
pub use head::{Head, Prompt, Signature, Step};
pub use proof::StepProof;
pub use whole::Receipt;

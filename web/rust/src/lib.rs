//! The engine-free part of Polychord for JavaScript: the crates `polychord-model` and `polychord-plan`,
//! compiled to wasm32, give headers, tokens, templates, sampling and plans.
//!
//! Numbers that may exceed 32 bits are `f64` where they are sizes of files, which have at most 53 bits,
//! and `u64` (a `BigInt`) where they are addresses. What has a structure is JSON.

mod error;
mod hash;
mod header;
mod model;
mod options;
mod place;
mod placed;
mod plain_network;
mod ranks;
mod sampler;

pub use hash::Sha256;
pub use header::{Header, part_names_of, part_starts};
pub use model::Model;
pub use place::place;
pub use placed::Placed;
pub use sampler::{Sampler, Text};

use wasm_bindgen::prelude::wasm_bindgen;

/// The version of the contract of host and guest.
#[wasm_bindgen(js_name = contractVersion)]
#[must_use]
pub fn contract_version() -> i32 {
    polychord_abi::transformer::VERSION
}

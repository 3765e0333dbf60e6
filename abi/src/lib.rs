//! The contract between a Polychord host and its guests.
//!
//! Names, codes and memory layouts only: no behavior and no allocation, so that
//! the host (any target) and the guest (wasm32 or wasm64) compile the same file.
//!
//! - [`import`]: the functions of module [`MODULE`] that a host offers to every guest.
//! - [`code`]: what those functions return when they refuse.
//! - [`Stats`]: the counters that a guest can ask for.
//! - [`network`]: the tensors of a network, with names and shapes; [`buffers`]: what a guest
//!   allocates for it.
//! - [`transformer`]: the exports and descriptors of the transformer guest, which is one
//!   user of the imports among others.
//!
//! All structures are `#[repr(C)]`, little endian, without padding, and made of plain
//! integers and floats, so that their bytes are the same on both sides.

#![no_std]

pub mod buffers;
pub mod code;
pub mod import;
pub mod network;
mod stats;
pub mod transformer;

pub use stats::Stats;

/// The module name that all host imports live in.
pub const MODULE: &str = "env";

/// Granularity of regions, layer slots and mappings: one WebAssembly page, in bytes.
///
/// It is a multiple of every page size that a supported host uses, so a layout made once
/// can be mapped anywhere.
pub const PAGE: u64 = 65_536;

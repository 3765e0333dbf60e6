//! What a Polychord host offers to its guests, behind safe functions.
//!
//! A guest is a WebAssembly module. Weights and other large data are *layers*, which the host
//! brings into the guest's own memory, often by mapping pages of a file there. The guest asks
//! where a layer is, and reads it in place:
//!
//! ```
//! use polychord_guest::{Error, layer};
//!
//! /// What the host calls: the sum of a layer of floats, or NaN if there is none.
//! #[unsafe(no_mangle)]
//! pub extern "C" fn sum(id: u32) -> f32 {
//!     polychord_guest::call(|call| -> Result<f32, Error> {
//!         Ok(layer::map(call, id)?.values::<f32>()?.iter().sum())
//!     })
//!     .unwrap_or(f32::NAN)
//! }
//! # assert!(sum(7).is_nan());
//! ```
//!
//! | what | by |
//! | --- | --- |
//! | a layer in place, or a copy of it | [`layer::map`], [`layer::load`] |
//! | how long a layer is | [`layer::bytes`] |
//! | the 64-bit memory | [`memory64::read`], [`memory64::write`], [`memory64::is_enabled`] |
//! | hints about layers | [`layer::prefetch`], [`layer::release`] |
//! | what was used | [`memory64::stats`], [`memory64::counters`] |
//! | other ranks | [`all_gather`] |
//! | functions of the embedding program | [`host_functions!`] |
//!
//! # How long bytes are there
//!
//! A host may move, exchange or release layers, but only while no code of the guest runs. So what
//! is mapped is valid until the guest returns to the host, and [`call`] makes that a lifetime: a
//! [`Call`] stands for the host's call that runs, what [`layer::map`] returns borrows from it, and
//! neither can be kept for the next one. What changes bytes of layers in the middle of a
//! call ([`memory64::write`], [`layer::release`]) borrows the `Call` mutably, and so waits until
//! nothing that is mapped is in use:
//!
//! ```compile_fail,E0502
//! use polychord_guest::{Error, layer};
//!
//! polychord_guest::call(|call| -> Result<u8, Error> {
//!     let mapped = layer::map(call, 7)?;
//!     layer::release(call, 7)?;
//!     Ok(mapped.bytes()[0])
//! });
//! ```
//!
//! ```compile_fail
//! let kept = polychord_guest::call(|call| polychord_guest::layer::map(call, 7));
//! ```
//!
//! # Features
//!
//! - `panic-handler`: a panic is a trap. For guests without `std`.
//! - `allocator`: memory for the crate `alloc`. For guests without `std`.
//!
//! Neither does anything on other targets than WebAssembly. There, where tests and documentation of
//! a guest are built, no host stands behind these functions, and each refuses with
//! [`Error::NotEnabled`].

#![no_std]
// Instructions of wasm64 (`memory.size` and the like) are not stable, nor is that target.
#![cfg_attr(all(target_arch = "wasm64", feature = "panic-handler"), feature(simd_wasm64))]

#[cfg(all(feature = "allocator", target_family = "wasm"))]
mod allocator;
mod call;
mod error;
mod functions;
mod imports;
pub mod layer;
pub mod memory64;
#[cfg(all(feature = "panic-handler", target_family = "wasm"))]
mod panic;
mod plain;
mod ranks;

pub use call::{Call, call};
pub use error::Error;
#[doc(hidden)]
pub use functions::Number;
pub use plain::Plain;
pub use ranks::all_gather;

#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;

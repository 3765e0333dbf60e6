//! A transformer as a WebAssembly guest: the network that its descriptor describes.
//!
//! The contract with the host is `polychord-abi`: [`exports`] holds what the host calls, and
//! `host` asks for weights and other ranks, by the crate `polychord-guest`. A call runs through
//! `forward` (the stages of a network), `attention`, and `kernels` (products with stored weights).
//!
//! # The same bits on every engine
//!
//! Only operations with one defined result are used: IEEE `mul`, `add`, `div` and `sqrt`,
//! integer SIMD, and the `libm` crate. Nothing fuses a multiplication with an addition.
//! Every sum has one order (`kernels`), which depends neither on how many rows a call
//! has nor on how weights are stored: a file and its dequantized form give equal logits.
//! NaN, whose bits engines may choose, is made canonical before logits leave.

#![no_std]
#![cfg_attr(target_arch = "wasm64", feature(simd_wasm64))]
// For the stack pointer, which no function of a language can set: `restart`.
#![feature(asm_experimental_arch)]

#[cfg(not(all(target_family = "wasm", target_feature = "simd128")))]
compile_error!("the guest is WebAssembly with SIMD: build it with scripts/build-guest");

mod alloc;
mod attention;
mod block;
mod buffers;
mod cache;
#[cfg_attr(feature = "multi32", path = "caches_apart.rs")]
mod caches;
mod checks;
mod delta_net;
mod dense;
pub mod embedding;
pub mod expert_stages;
mod experts;
pub mod exports;
mod forward;
mod host;
mod inputs;
mod kept;
mod kernels;
mod latent;
mod math;
#[cfg(feature = "multi32")]
mod memories;
mod model;
mod products;
mod ranks;
mod restart;
pub mod resume;
mod roles;
mod rope;
mod short_conv;
mod simd;
mod stage;
pub mod step;

/// What a refused call returns: a [`polychord_abi::transformer::status`].
type Status = i32;

//! The transformer guest of Polychord, built: WebAssembly modules as constants.
//!
//! All builds compute the same, to the last bit. They differ in the memory that they have, and in
//! whether they use the relaxed dot product, which some engines run faster and some slower. The
//! source is `guest/` of the repository; [`BUILD_INFO`] names the compiler, the features and the
//! SHA-256 of each module, and `scripts/build-guest --check` builds them again.
#![no_std]

/// One memory with 32-bit addresses, fixed-width SIMD only.
pub const WASM32_PLAIN: &[u8] = include_bytes!("../transformer-wasm32-plain.wasm");

/// One memory with 32-bit addresses, with relaxed SIMD.
pub const WASM32_RELAXED: &[u8] = include_bytes!("../transformer-wasm32-relaxed.wasm");

/// One memory with 64-bit addresses, fixed-width SIMD only.
pub const WASM64_PLAIN: &[u8] = include_bytes!("../transformer-wasm64-plain.wasm");

/// One memory with 64-bit addresses, with relaxed SIMD.
pub const WASM64_RELAXED: &[u8] = include_bytes!("../transformer-wasm64-relaxed.wasm");

/// Several memories with 32-bit addresses, fixed-width SIMD only.
pub const MULTI32_PLAIN: &[u8] = include_bytes!("../transformer-multi32-plain.wasm");

/// Several memories with 32-bit addresses, with relaxed SIMD.
pub const MULTI32_RELAXED: &[u8] = include_bytes!("../transformer-multi32-relaxed.wasm");

/// Compiler, target features, SHA-256 and size of each module, as text.
pub const BUILD_INFO: &str = include_str!("../BUILD-INFO");

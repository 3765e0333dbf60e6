//! Passes from WebAssembly to WebAssembly, for engines that lack what a guest was promised.
//!
//! Each pass takes a valid module and returns a valid module that does the same, with one
//! change; a pass is a file of its own.
//!
//! | pass | change | why |
//! | --- | --- | --- |
//! | [`stop`] | code checks a flag at function entries and loop heads, and traps if it is set | a guest can be stopped from another thread, on every engine, without signals |
//! | [`start`] | the start function is exported in place of being run | it runs under the limits of any other call |
//! | [`memories`] | marked imports become instructions on further memories | compilers know one memory only |
//! | [`copies`] | copies between 32-bit and 64-bit memories or tables clear what is above a 32-bit address | an interpreter reads it as a part of the address |
//! | [`tables`] | tables get a maximum | some engines end the process when a table outgrows the machine |
//!
//! Indices of functions, memories, tables and types stay what they are, but for [`memories`]: a pass
//! only appends.

#![forbid(unsafe_code)]

pub mod copies;
pub mod memories;
pub mod start;
pub mod stop;
pub mod tables;

mod sections;
mod shape;

/// Why a module cannot be rewritten.
///
/// Modules that were validated with the features of `polychord-runtime-api` can.
///
/// ```
/// use polychord_passes::{Error, start};
///
/// assert!(matches!(start::export(b"not a module"), Err(Error::Invalid(_))));
/// ```
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The module is not valid.
    #[error("invalid module: {0}")]
    Invalid(#[from] wasmparser::BinaryReaderError),
    /// The module uses something that passes do not know.
    #[error("the module has {what}, which cannot be rewritten")]
    Unsupported {
        /// What it uses.
        what: &'static str,
    },
}

/// Result of a pass.
///
/// ```
/// use polychord_passes::{Result, start, stop};
///
/// /// Both passes that a time limit needs.
/// fn stoppable(wasm: &[u8]) -> Result<Vec<u8>> {
///     let exported = start::export(wasm)?;
///     Ok(stop::checks(&exported.wasm, stop::Reads::Always)?.wasm)
/// }
/// ```
pub type Result<T, E = Error> = std::result::Result<T, E>;

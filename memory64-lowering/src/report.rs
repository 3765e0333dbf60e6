//! What comes out of lowering.

use std::borrow::Cow;

use crate::layout::Memory;

/// A module without 64-bit memories and tables.
///
/// ```
/// # use polychord_memory64_lowering::{Options, lower};
/// let wasm = wat::parse_str("(module (memory 1))").unwrap();
/// let same = lower(&wasm, &Options::default()).unwrap();
/// assert_eq!(same.wasm, wasm);
/// assert!(same.report.memories.is_empty());
/// ```
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Lowered<'a> {
    /// The module; the bytes that were given if there was nothing to lower.
    pub wasm: Cow<'a, [u8]>,
    /// What was done.
    pub report: Report,
}

/// What was done to a module.
///
/// ```
/// # use polychord_memory64_lowering::{Options, lower};
/// let text = "(module (memory i64 1) (func (drop (i32.load (i64.const 0)))))";
/// let wasm = wat::parse_str(text).unwrap();
/// let report = lower(&wasm, &Options::default()).unwrap().report;
/// assert_eq!(report.checked, 1);
/// assert!(report.helpers > 0);
/// ```
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct Report {
    /// The memories that were divided.
    pub memories: Vec<Memory>,
    /// Tables that had 64-bit indices.
    pub tables: Vec<u32>,
    /// Loads and stores with a check of their own.
    pub checked: u64,
    /// Loads and stores that a check before them is about.
    pub proved: u64,
    /// Pieces of code that are there several times, with checks before those that have none.
    pub regions: u64,
    /// Innermost loops that are there several times, with checks at the heads of those that have none.
    pub loops: u64,
    /// Functions that were added.
    pub helpers: u64,
    /// Custom sections that are left out since they would not be true any more.
    pub dropped: Vec<String>,
    /// Bytes of code before.
    pub code_before: u64,
    /// Bytes of code after.
    pub code_after: u64,
}

//! The defects, by the group of cases that has to notice them.

mod abi;
mod arithmetic;
mod call;
mod compile;
mod host_api;
mod images;
mod imports;
mod limits;
mod mapping;
mod memory;
mod ranks;
mod threads;
mod traps;
mod wasi;

use polychord_runtime_api::{Result, Value};

use crate::double::{Defect, Guest};

/// A defect, and the cases that have to fail because of it.
pub(crate) struct Entry {
    pub(crate) name: &'static str,
    /// What is wrong with the engine: continues "the engine".
    pub(crate) what: &'static str,
    pub(crate) defect: &'static dyn Defect,
    pub(crate) caught_by: &'static [&'static str],
}

/// Calls an export, and changes every result.
fn map_results(
    guest: &mut Guest,
    export: &str,
    args: &[Value],
    change: impl Fn(Value) -> Value,
) -> Result<Vec<Value>> {
    Ok(guest.inner.call(export, args)?.into_iter().map(change).collect())
}

/// No defect at all.
#[derive(Debug)]
pub(crate) struct Sound;

impl Defect for Sound {}

pub(crate) static NONE: Sound = Sound;

pub(crate) static DEFECTS: &[&[Entry]] = &[
    compile::DEFECTS,
    call::DEFECTS,
    traps::DEFECTS,
    memory::DEFECTS,
    abi::DEFECTS,
    host_api::DEFECTS,
    mapping::DEFECTS,
    images::DEFECTS,
    limits::DEFECTS,
    imports::DEFECTS,
    threads::DEFECTS,
    ranks::DEFECTS,
    arithmetic::DEFECTS,
    wasi::DEFECTS,
];

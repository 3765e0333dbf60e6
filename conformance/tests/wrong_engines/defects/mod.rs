//! The defects, by the group of cases that has to notice them.

mod abi;
mod arithmetic;
mod call;
mod compile;
mod host_api;
mod limits;
mod mapping;
mod memory;
mod ranks;
mod threads;
mod traps;

use crate::double::Defect;

/// A defect, and the cases that have to fail because of it.
pub(crate) struct Entry {
    pub(crate) name: &'static str,
    /// What is wrong with the engine: continues "the engine".
    pub(crate) what: &'static str,
    pub(crate) defect: &'static dyn Defect,
    pub(crate) caught_by: &'static [&'static str],
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
    limits::DEFECTS,
    threads::DEFECTS,
    ranks::DEFECTS,
    arithmetic::DEFECTS,
];

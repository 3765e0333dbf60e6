//! The cases, group by group.

use crate::Case;

pub mod abi;
pub mod call;
pub mod compile;
pub mod determinism;
pub mod host_api;
pub mod limits;
pub mod mapping;
pub mod memory;
pub mod ranks;
pub mod stops;
pub mod threads;
pub mod transformer;
pub mod traps;

/// The tables of all groups.
pub const GROUPS: &[&[Case]] = &[
    compile::CASES,
    call::CASES,
    traps::CASES,
    memory::CASES,
    abi::CASES,
    host_api::CASES,
    mapping::CASES,
    limits::CASES,
    stops::CASES,
    threads::CASES,
    ranks::CASES,
    determinism::CASES,
    transformer::CASES,
];

//! The cases, group by group.

use crate::case::Case;

pub mod abi;
pub mod call;
pub mod compile;
pub mod determinism;
pub mod globals;
pub mod host_api;
pub mod images;
pub mod imports;
pub mod interrupt;
pub mod limits;
pub mod mapping;
pub mod memory;
pub mod ranks;
pub mod stops;
pub mod threads;
pub mod transformer;
pub mod traps;
pub mod wasi;

/// Version of the suite. The second number grows with new cases, the first one when a case
/// that existed promises something else.
pub const VERSION: &str = "3.1";

/// All cases, group by group.
#[must_use]
pub fn all() -> Vec<Case> {
    GROUPS.concat()
}

/// The tables of all groups.
pub const GROUPS: &[&[Case]] = &[
    compile::CASES,
    call::CASES,
    traps::CASES,
    memory::CASES,
    abi::CASES,
    host_api::CASES,
    mapping::CASES,
    images::CASES,
    limits::CASES,
    stops::CASES,
    imports::CASES,
    globals::CASES,
    interrupt::CASES,
    threads::CASES,
    ranks::CASES,
    determinism::CASES,
    transformer::CASES,
    wasi::CASES,
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_case_has_a_name_of_its_own_and_a_promise() {
        let mut names = std::collections::BTreeSet::new();
        for case in all() {
            assert!(names.insert(case.name), "{} comes twice", case.name);
            assert!(case.name.contains('/'), "{} is in no group", case.name);
            assert!(!case.promise.is_empty() && !case.promise.ends_with('.'), "{}", case.name);
        }
    }
}

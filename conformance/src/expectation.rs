//! What a backend is known to fail, and how many official tests it has to pass.

use crate::{Failure, Outcome};

/// What a backend states about its results before the suite runs.
///
/// ```
/// use polychord_conformance::{ExpectedFailure, Expectations, SpecFloor};
///
/// const EXPECTED: Expectations = Expectations::NONE
///     .failures(&[ExpectedFailure::new("limits/runaway_recursion", "killed by signal")
///         .because("recursion is not contained", "docs/mine.md#recursion")])
///     .spec_floors(&[SpecFloor::new("simd", 24_000)]);
/// assert_eq!(EXPECTED.failures.len(), 1);
/// ```
#[derive(Clone, Copy, Debug, Default)]
#[non_exhaustive]
pub struct Expectations {
    /// The cases that fail for a reason that is known and out of the backend's hands.
    pub failures: &'static [ExpectedFailure],
    /// The least numbers of official tests that pass.
    pub spec_floors: &'static [SpecFloor],
}

/// The least number of directives that pass in a part of the official tests.
///
/// ```
/// use polychord_conformance::SpecFloor;
/// use polychord_conformance::spec::SUITES;
///
/// const FLOOR: SpecFloor = SpecFloor::new("memory64", 10);
/// assert!(SUITES.iter().any(|suite| suite.name == FLOOR.suite));
/// ```
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct SpecFloor {
    /// Name of the [`Suite`](crate::spec::Suite).
    pub suite: &'static str,
    /// Directives that pass.
    pub passed: usize,
}

/// A case that is known to fail.
///
/// It must fail, and in this way: if it passes the run fails, so that no entry outlives the
/// defect that it was made for.
///
/// ```
/// use polychord_conformance::ExpectedFailure;
///
/// const KNOWN: ExpectedFailure = ExpectedFailure::new("limits/runaway_recursion", "signal")
///     .because("recursion is not contained", "docs/mine.md#recursion");
/// assert!(KNOWN.case.starts_with("limits/"));
/// ```
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct ExpectedFailure {
    /// Name of the case.
    pub case: &'static str,
    /// A part of the failure's message.
    pub says: &'static str,
    /// Why it fails.
    pub reason: &'static str,
    /// Where the defect is reported or documented.
    pub link: &'static str,
}

impl Expectations {
    /// All cases pass or are refused.
    pub const NONE: Self = Self { failures: &[], spec_floors: &[] };

    /// Sets the cases that are known to fail.
    #[must_use]
    pub const fn failures(mut self, failures: &'static [ExpectedFailure]) -> Self {
        self.failures = failures;
        self
    }

    /// Sets the least numbers of official tests that pass.
    #[must_use]
    pub const fn spec_floors(mut self, floors: &'static [SpecFloor]) -> Self {
        self.spec_floors = floors;
        self
    }

    /// The entry for a case, if there is one.
    pub(crate) fn of(&self, case: &str) -> Option<&'static ExpectedFailure> {
        self.failures.iter().find(|expected| expected.case == case)
    }

    /// How many directives of a suite must pass.
    pub(crate) fn floor(&self, suite: &str) -> usize {
        self.spec_floors.iter().find(|floor| floor.suite == suite).map_or(0, |floor| floor.passed)
    }

    /// Entries for cases that do not exist, which would never be noticed.
    pub(crate) fn unknown<'a>(
        &self,
        exists: impl Fn(&str) -> bool + 'a,
    ) -> Option<&'static ExpectedFailure> {
        self.failures.iter().find(|expected| !exists(expected.case))
    }
}

impl SpecFloor {
    /// At least `passed` directives of a [`Suite`](crate::spec::Suite) pass.
    #[must_use]
    pub const fn new(suite: &'static str, passed: usize) -> Self {
        Self { suite, passed }
    }
}

impl ExpectedFailure {
    /// The case `case` fails with a message that has `says` in it.
    #[must_use]
    pub const fn new(case: &'static str, says: &'static str) -> Self {
        Self { case, says, reason: "", link: "" }
    }

    /// Sets why the case fails, and where that is reported or documented.
    #[must_use]
    pub const fn because(mut self, reason: &'static str, link: &'static str) -> Self {
        self.reason = reason;
        self.link = link;
        self
    }

    /// Accepts a case that failed in the expected way, and nothing else.
    pub(crate) fn judge(&self, outcome: Outcome) -> Outcome {
        let Self { says, reason, link, .. } = self;
        match outcome {
            Ok(()) => Err(Failure::new(format!(
                "passed, although it is listed as an expected failure ({reason}, {link}): \
                 remove it from the list"
            ))),
            Err(failure) if failure.to_string().contains(says) => Ok(()),
            Err(failure) => Err(Failure::new(format!(
                "was expected to fail with {says:?} ({reason}, {link}), but: {failure}"
            ))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const EXPECTED: ExpectedFailure =
        ExpectedFailure::new("a/b", "got 13").because("it cannot count", "https://x");

    #[test]
    fn only_the_expected_failure_is_in_order() {
        assert!(EXPECTED.judge(Err(Failure::new("got 13, expected 12"))).is_ok());
        let passed = EXPECTED.judge(Ok(())).unwrap_err().to_string();
        assert!(passed.contains("remove it") && passed.contains("it cannot count"), "{passed}");
        let other = EXPECTED.judge(Err(Failure::new("got 14"))).unwrap_err().to_string();
        assert!(other.contains("got 14") && other.contains("\"got 13\""), "{other}");
    }

    #[test]
    fn an_entry_for_a_case_that_does_not_exist_is_found() {
        let expectations = Expectations::NONE.failures(&[EXPECTED]);
        assert!(expectations.unknown(|case| case == "a/b").is_none());
        assert_eq!(expectations.unknown(|_| false).map(|entry| entry.case), Some("a/b"));
    }
}

//! Outcomes of the official tests, counted by suite.

use std::collections::BTreeMap;
use std::fmt;

use super::verdict::Verdict;

/// The outcomes of the directives of a suite, counted.
///
/// ```
/// use polychord_conformance::spec::Counts;
///
/// let counts = Counts::default();
/// assert_eq!(counts.total(), 0);
/// assert_eq!(counts.to_string(), "0 passed, 0 failed, 0 refused, 0 not expressible");
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[non_exhaustive]
pub struct Counts {
    /// The engine did as the specification says.
    pub passed: usize,
    /// It did not; see [`failures`](Self::failures).
    pub failed: usize,
    /// The module needs what the engine or Polychord does not offer, and was refused: how many
    /// directives for which reason.
    pub refused: BTreeMap<String, usize>,
    /// The directive asks for what the API cannot express: how many for which reason.
    pub not_expressible: BTreeMap<String, usize>,
    /// File, line and what was wrong, of every directive that failed.
    pub failures: Vec<Failure>,
}

/// A directive that failed.
///
/// ```
/// use polychord_conformance::spec::Counts;
///
/// fn print(counts: &Counts) {
///     for failure in &counts.failures {
///         println!("{}:{}: {}", failure.file, failure.line, failure.message);
///     }
/// }
/// ```
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[non_exhaustive]
pub struct Failure {
    /// The file.
    pub file: String,
    /// Its line.
    pub line: usize,
    /// What was wrong.
    pub message: String,
}

impl Counts {
    pub(super) fn add(&mut self, file: &str, line: usize, verdict: Verdict) {
        match verdict {
            Verdict::Passed => self.passed += 1,
            Verdict::Refused(reason) => *self.refused.entry(reason).or_default() += 1,
            Verdict::NotExpressible(reason) => {
                *self.not_expressible.entry(reason).or_default() += 1;
            }
            Verdict::Failed(message) => {
                self.failed += 1;
                self.failures.push(Failure { file: file.to_owned(), line, message });
            }
        }
    }

    /// All directives.
    #[must_use]
    pub fn total(&self) -> usize {
        let sum = |reasons: &BTreeMap<_, usize>| reasons.values().sum::<usize>();
        self.passed + self.failed + sum(&self.refused) + sum(&self.not_expressible)
    }
}

impl fmt::Display for Counts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sum = |reasons: &BTreeMap<_, usize>| reasons.values().sum::<usize>();
        let Self { passed, failed, refused, not_expressible, .. } = self;
        let (refused, silent) = (sum(refused), sum(not_expressible));
        write!(f, "{passed} passed, {failed} failed, {refused} refused, {silent} not expressible")
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {}", self.file, self.line, self.message)
    }
}

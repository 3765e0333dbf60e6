//! A case of the suite.

use polychord_runtime_api::{Engine, Requirements};

use crate::failure::Outcome;
use crate::refusal;

/// One promise, and the function that checks it.
///
/// ```
/// use polychord_conformance::{Engine, all};
///
/// /// Runs one case by its name.
/// fn check(engine: &dyn Engine, name: &str) -> Option<String> {
///     let case = all().into_iter().find(|case| case.name == name)?;
///     Some(match case.check(engine) {
///         Ok(()) if case.applies_to(engine) => format!("kept: {}", case.promise),
///         Ok(()) => "not claimed, and refused as it must be".to_owned(),
///         Err(failure) => failure.to_string(),
///     })
/// }
/// ```
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Case {
    /// Group and name, `group/name`.
    pub name: &'static str,
    /// What is promised, in one line.
    pub promise: &'static str,
    /// What the engine must claim for the promise to apply.
    pub needs: Requirements,
    /// Checks it.
    pub run: fn(&dyn Engine) -> Outcome,
}

impl Case {
    /// Whether an engine claims all that the case needs.
    #[must_use]
    pub fn applies_to(&self, engine: &dyn Engine) -> bool {
        self.needs.check(engine.capabilities()).is_ok()
    }

    /// Runs the case or, if the engine does not claim what it needs, checks that asking for
    /// that is refused.
    ///
    /// # Errors
    ///
    /// Describes what differs from the promise.
    pub fn check(&self, engine: &dyn Engine) -> Outcome {
        if self.applies_to(engine) {
            return (self.run)(engine);
        }
        refusal::check(engine, &self.needs)
    }
}

use std::error::Error;
use std::fmt;
use std::panic::Location;

use polychord_runtime_api::{Engine, Requirements};

use crate::refusal;

/// One promise, and the function that checks it.
#[derive(Clone, Debug)]
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
    /// What is not as promised.
    pub fn check(&self, engine: &dyn Engine) -> Outcome {
        if self.applies_to(engine) {
            return (self.run)(engine);
        }
        refusal::check(engine, &self.needs)
    }
}

/// The result of a case.
pub type Outcome = Result<(), Failure>;

/// Why a case failed, and where in the suite that was noticed.
///
/// Any error turns into a failure by `?`, so a case reads like a program that uses the API.
pub struct Failure {
    message: String,
    place: &'static Location<'static>,
}

impl Failure {
    /// A failure that is noticed where this is called.
    #[must_use]
    #[track_caller]
    pub fn new(message: impl Into<String>) -> Self {
        Self { message: message.into(), place: Location::caller() }
    }
}

impl<E: Error> From<E> for Failure {
    #[track_caller]
    fn from(error: E) -> Self {
        let mut message = error.to_string();
        let mut source = error.source();
        while let Some(error) = source {
            let text = error.to_string();
            // Some errors name their cause themselves.
            if !message.ends_with(&text) {
                message = format!("{message}: {text}");
            }
            source = error.source();
        }
        Self::new(format!("unexpected error: {message}"))
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}\nat {}", self.message, self.place)
    }
}

impl fmt::Debug for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}
